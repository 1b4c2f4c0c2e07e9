"""Expressions of metrics over the API: accepted, refused, evaluated."""

from __future__ import annotations

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api

PATH = "/billable_metrics/evaluate_expression"
EVENT = {"code": "c", "timestamp": 1_700_000_000, "properties": {"value": "10.4", "units": 2}}


def test_a_metric_keeps_its_expression(api: Api) -> None:
    made = api.metric("gb", expression="event.properties.mb / 1024", field_name="gb")
    assert made["expression"] == "event.properties.mb / 1024"
    renamed = api.put("/billable_metrics/gb", {"billable_metric": {"name": "GB"}})["billable_metric"]
    assert renamed["expression"] == "event.properties.mb / 1024"
    changed = api.put("/billable_metrics/gb", {"billable_metric": {"expression": "1 + 1"}})["billable_metric"]
    assert changed["expression"] == "1 + 1"
    body = {"name": "x", "code": "x", "aggregation_type": "sum_agg", "field_name": "v", "expression": "1 +"}
    refused = api.details("POST", "/billable_metrics", {"billable_metric": body})
    assert refused == {"expression": ["invalid_expression"]}


def test_evaluate(api: Api) -> None:
    text = "round(event.properties.value * event.properties.units)"
    found = api.post(PATH, {"expression": text, "event": EVENT})
    assert found == {"expression_result": {"value": "21.0"}}
    plain = api.post(PATH, {"expression": "concat(event.code, '-1')", "event": EVENT})
    assert plain == {"expression_result": {"value": "c-1"}}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, {"expression": ["value_is_mandatory"]}),
        ({"expression": " "}, {"expression": ["value_is_mandatory"]}),
        ({"expression": "1 +"}, {"expression": ["invalid_expression"]}),
        ({"expression": "1"}, {"event": ["invalid_event"]}),
        ({"expression": "event.properties.b", "event": EVENT}, {"event": ["invalid_event"]}),
        ({"expression": "1 / 0", "event": EVENT}, {"event": ["invalid_event"]}),
        ({"expression": "1", "event": []}, {"event": ["invalid_event"]}),
    ],
)
def test_what_cannot_be_evaluated(api: Api, body: object, problem: object) -> None:
    assert api.details("POST", PATH, body) == problem


@pytest.mark.parametrize("what", ["deleted", "renamed"])
def test_the_expression_of_a_metric_that_is_no_more_is_not_asked(api: Api, dsn: str, what: str) -> None:
    api.metric(expression="event.properties.a * 2")
    if what == "deleted":
        api.delete("/billable_metrics/tokens")
    else:
        api.put("/billable_metrics/tokens", {"billable_metric": {"code": "others"}})
    draft = Draft("t", "tokens", "sub", microseconds(START), None, {"b": 1})
    request = Request(api.organization.id, [draft], microseconds(START))
    with open_connection(dsn) as conn:
        store(conn, Memory(), [request])
    assert (request.unevaluable, request.duplicates) == ({}, [])
    assert api.get("/events/t")["event"]["properties"] == {"b": 1}
