"""The hourly webhook about events that were taken and do not count: what it lists, and when it is sent."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store an event as of the organization's clock, given as `created_at`; its transaction id."""
    conn, memory = open_connection(dsn), Memory()

    def one(code: str = "tokens", *, created_at: datetime = START, **properties: Any) -> str:
        name = f"wrong-{next(_numbers)}"
        drafts = [Draft(name, code, "sub", microseconds(START), None, properties)]
        store(conn, memory, [Request(api.organization.id, drafts, microseconds(created_at))])
        return name

    yield one
    conn.close()


def listen(api: Api, **fields: Any) -> None:
    endpoint = {"webhook_url": "https://example.com/hook", **fields}
    api.post("/webhook_endpoints", {"webhook_endpoint": endpoint})


def told(api: Api, *when: Any) -> list[Any]:
    """What was said once the clock shows that time of 2024-03."""
    now = datetime(2024, 3, *when).replace(tzinfo=UTC)
    api.put("/test_clock", {"test_clock": {"now": now.isoformat()}})
    (found,) = api.row(
        "select coalesce(array_agg(payload order by created_at, id), '{}') from webhook"
        " where organization_id = %(organization)s and webhook_type = 'events.errors'"
    )
    return [json.loads(payload) for payload in found]


def marked(api: Api) -> int:
    (count,) = api.row("select count(*) from event_hour where organization_id = %(organization)s")
    return int(count)


def test_what_is_wrong_is_listed_by_its_kind(api: Api, stranger: Api, send: Any) -> None:
    listen(api)
    listen(stranger)
    api.metric(filters=[{"key": "model", "values": ["a", "12", "true"]}, {"key": "type", "values": ["in"]}])
    api.metric("calls", aggregation_type="count_agg", filters=[{"key": "model", "values": ["a"]}])
    api.metric("users", aggregation_type="unique_count_agg", field_name="user")
    for code, kind in (("most", "max_agg"), ("last", "latest_agg")):
        api.metric(code, aggregation_type=kind)
    api.metric("level", aggregation_type="weighted_sum_agg", weighted_interval="seconds")
    for value in (7, "7", "-1.50", Decimal("0.5"), 0):
        send(tokens=value, model="a", type="in")
    for model in (12, "12", True, None):
        send(tokens=1, model=model)
    send(tokens=1)
    send("calls", other="x")
    send("users", user=False)
    invalid_code = [send("token"), send("Tokens", tokens=1)]
    missing = [
        send(model="a"),
        *[send(tokens=value) for value in ("1e3", "+5", ".5", "", " 5", None, True, [1], {"a": 1})],
        *[send(code, tokens="many") for code in ("most", "last", "level")],
        send("level"),
        send("users"),
        send("users", user=None),
    ]
    strange = [
        send(tokens=1, model="A"),
        send(tokens=1, model="a", type="out"),
        send(tokens=1, model=False),
        send(tokens=1, model=["a"]),
        send("calls", model="b"),
    ]
    both = send(tokens="x", type="")
    (body,) = told(api, 5, 11, 5)
    assert body == {
        "webhook_type": "events.errors",
        "object_type": "events_errors",
        "organization_id": str(api.organization.id),
        "events_errors": {
            "invalid_code": invalid_code,
            "missing_aggregation_property": [*missing, both],
            "missing_group_key": None,
            "invalid_filter_values": [*strange, both],
        },
    }
    assert told(stranger, 5, 11, 5) == []


def test_each_hour_is_reported_five_minutes_after_its_end(api: Api, send: Any) -> None:
    listen(api)
    hour = datetime(2024, 3, 5, 10, tzinfo=UTC)
    first = send("x", created_at=hour)
    last = send("x", created_at=hour + timedelta(minutes=59, seconds=59, microseconds=999_999))
    next_one = send("x", created_at=hour + timedelta(hours=1))
    days_later = send("x", created_at=hour + timedelta(days=3))
    assert told(api, 5, 11, 4, 59) == []
    assert [one["events_errors"]["invalid_code"] for one in told(api, 5, 11, 5)] == [[first, last]]
    assert [one["events_errors"]["invalid_code"] for one in told(api, 9)] == [
        [first, last],
        [next_one],
        [days_later],
    ]
    (instants,) = api.row(
        "select array_agg(created_at order by created_at) from webhook where organization_id = %(organization)s"
    )
    assert instants == [hour + timedelta(minutes=65, hours=late) for late in (0, 1, 72)]
    assert len(told(api, 10)) == 3
    assert marked(api) == 0


def test_nothing_is_said_where_all_is_well_or_nobody_listens(api: Api, send: Any) -> None:
    api.metric()
    send("x")
    assert told(api, 5, 11, 5) == []
    assert marked(api) == 0
    listen(api, event_types=["invoice.created"])
    send("x", created_at=START + timedelta(hours=2))
    assert told(api, 5, 14) == []
    listen(api, webhook_url="https://example.com/other")
    send(tokens=1, created_at=START + timedelta(hours=5))
    assert told(api, 6) == []
    assert marked(api) == 0


def test_the_metrics_of_then_decide(api: Api, send: Any) -> None:
    listen(api)
    api.metric("gone")
    send("new", tokens=1)
    deleted = send("gone", tokens=1)
    api.metric("new")
    api.delete("/billable_metrics/gone")
    (body,) = told(api, 5, 12)
    assert body["events_errors"]["invalid_code"] == [deleted]


def test_an_amended_event_is_what_it_says_now(api: Api, send: Any) -> None:
    listen(api)
    api.metric()
    voided, mended, kept = send("x"), send(tokens="many"), send("x")
    said = [
        {"kind": "void", "event_transaction_id": voided},
        {"kind": "replace", "event_transaction_id": mended, "properties": {"tokens": 5}},
    ]
    amendments = [
        {
            "transaction_id": f"a-{each['event_transaction_id']}",
            "external_subscription_id": "sub",
            "reason": "r",
            **each,
        }
        for each in said
    ]
    api.post("/events/amendments", {"amendments": amendments})
    (body,) = told(api, 5, 12)
    assert body["events_errors"] == {
        "invalid_code": [kept],
        "missing_aggregation_property": [],
        "missing_group_key": None,
        "invalid_filter_values": [],
    }
