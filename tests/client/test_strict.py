"""`?strict=true`: events are taken as ever, and the answer says what of them will not count, and why."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.live import LiveServer

NOW = "2026-10-05T12:00:00Z"


def metric(code: str, **fields: Any) -> dict[str, Any]:
    given = {"name": code, "code": code, "aggregation_type": "sum_agg", "field_name": "tokens", **fields}
    return {"billable_metric": given}


@pytest.fixture(scope="module")
def client(server: LiveServer) -> httpx2.Client:
    """A plan that prices `tokens` by model at a price of its own for 8K alone, `users`, `seats` in advance, and not `idle`."""
    key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
    client = server.client(key)
    ids = {}
    for body in (
        metric("tokens", filters=[{"key": "model", "values": ["8K", "32K"]}]),
        metric("users", aggregation_type="unique_count_agg", field_name="user"),
        metric("seats", aggregation_type="unique_count_agg", field_name="user"),
        metric("calls", aggregation_type="count_agg", field_name=None),
        metric(
            "rules",
            aggregation_type="custom_agg",
            field_name=None,
            custom_aggregator={"total_units": "state.total_units + event.properties.n"},
        ),
        metric("idle"),
    ):
        made = client.post("/billable_metrics", json=body)
        assert made.status_code == 200, made.text
        ids[body["billable_metric"]["code"]] = made.json()["billable_metric"]["lago_id"]
    charges = [
        {"billable_metric_id": ids[code], "charge_model": "standard", "properties": {"amount": "1"}}
        for code in ("users", "calls", "rules")
    ]
    seats = {"billable_metric_id": ids["seats"], "charge_model": "standard", "properties": {"amount": "1"}}
    charges.append({**seats, "pay_in_advance": True})
    by_model = {
        "billable_metric_id": ids["tokens"],
        "charge_model": "standard",
        "properties": {"amount": "0"},
        "filters": [{"values": {"model": ["8K"]}, "properties": {"amount": "1"}}],
    }
    plan = {
        "name": "P",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [*charges, by_model],
    }
    assert client.post("/plans", json={"plan": plan}).status_code == 200
    assert client.post("/customers", json={"customer": {"external_id": "c"}}).status_code == 200
    subscription = {"external_customer_id": "c", "plan_code": "p", "external_id": "s"}
    assert client.post("/subscriptions", json={"subscription": subscription}).status_code == 200
    return client


FINE: dict[str, Any] = {
    "code": "tokens",
    "external_subscription_id": "s",
    "timestamp": NOW,
    "properties": {"model": "8K", "tokens": 5},
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"code": "calls", "properties": {}}, []),
        ({"code": "rules", "properties": {"n": 1}}, []),
        ({"code": "users", "properties": {"user": "u", "operation_type": "remove"}}, []),
        ({"code": "typo"}, [("code", "billable_metric_not_found")]),
        ({"external_subscription_id": None}, [("external_subscription_id", "value_is_mandatory")]),
        ({"external_subscription_id": "other"}, [("external_subscription_id", "subscription_not_found")]),
        ({"timestamp": "2026-09-30T23:59:59.999999Z"}, [("timestamp", "no_subscription_at_that_time")]),
        ({"properties": {"model": "8K"}}, [("properties.tokens", "value_is_mandatory")]),
        (
            {"properties": {"model": "8K", "tokens": "5e3"}},
            [("properties.tokens", "value_is_not_valid_number")],
        ),
        (
            {"properties": {"model": "8k", "tokens": 5}},
            [("properties.model", "value_is_not_listed"), ("properties", "unpriced")],
        ),
        (
            {"properties": {"tokens": 5}},
            [("properties.model", "value_is_mandatory"), ("properties", "unpriced")],
        ),
        ({"properties": {"model": "32K", "tokens": 5}}, [("properties", "unpriced")]),
        ({"code": "idle"}, [("code", "not_priced")]),
        ({"code": "rules", "properties": {"m": 1}}, [("properties", "no_units")]),
        ({"code": "users", "properties": {}}, []),
        ({"code": "seats", "properties": {}}, [("properties.user", "value_is_mandatory")]),
        (
            {"code": "users", "properties": {"user": "u", "operation_type": "sub"}},
            [("properties.operation_type", "value_is_invalid")],
        ),
        (
            {"code": "typo", "external_subscription_id": "other"},
            [("code", "billable_metric_not_found"), ("external_subscription_id", "subscription_not_found")],
        ),
    ],
)
def test_what_will_not_count_is_said(
    client: httpx2.Client, request: pytest.FixtureRequest, changed: Any, expected: Any
) -> None:
    name = request.node.callspec.id
    event = FINE | {"transaction_id": f"one {name}"} | changed
    one = client.post("/events?strict=true", json={"event": event})
    assert one.status_code == 200, one.text
    found = one.json()["warnings"]
    assert [(each["field"], each["code"]) for each in found] == expected
    assert all(each["message"].endswith(".") for each in found)
    assert client.get(f"/events/{quote(f'one {name}', safe='')}").status_code == 200
    batch = [FINE | {"transaction_id": f"a {name}"}, event | {"transaction_id": f"b {name}"}]
    several = client.post("/events/batch?strict=1", json={"events": batch}).json()
    assert len(several["events"]) == 2
    rows = [
        (each["index"], each["transaction_id"], each["field"], each["code"]) for each in several["warnings"]
    ]
    assert rows == [(1, f"b {name}", *row) for row in expected]


def test_closed_sets_are_named(client: httpx2.Client) -> None:
    event = FINE | {"transaction_id": "closed", "properties": {"model": "8k", "tokens": 5}}
    found = client.post("/events?strict=true", json={"event": event}).json()["warnings"][0]
    assert sorted(found["allowed"]) == ["32K", "8K"]
    assert found["message"].startswith("properties.model: The metric doesn't list")


@pytest.mark.parametrize("query", ["", "?strict=false", "?strict=", "?other=true"])
def test_who_does_not_ask_gets_lagos_answer(client: httpx2.Client, query: str) -> None:
    event = FINE | {"transaction_id": f"quiet {query}", "code": "typo"}
    answer = client.post(f"/events{query}", json={"event": event})
    assert (answer.status_code, set(answer.json())) == (200, {"event"})


def test_what_is_refused_is_refused_as_ever(client: httpx2.Client) -> None:
    answer = client.post("/events?strict=true", json={"event": FINE})
    assert (answer.status_code, answer.json()["error_details"]) == (
        422,
        {"transaction_id": ["value_is_mandatory"]},
    )
