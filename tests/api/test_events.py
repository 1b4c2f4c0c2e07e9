"""GET /events over HTTP, with events stored as ingestion stores them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import event_lists as lists, events, rollup, usage
from permille.events.postgres.writer import Memory, open_connection, store
from permille.ingest.decoders.lago import read_one

from .conftest import START, Api


@pytest.fixture
def sent(dsn: str, api: Api) -> list[str]:
    """Transaction ids of 300 events of 3 subscriptions at only 2 instants, in the order of the list."""
    drafts = [
        Draft(f"tx-{nth:03}", "tokens", f"sub-{nth % 3}", microseconds(_at(nth)), None, {"tokens": nth})
        for nth in range(300)
    ]
    with open_connection(dsn) as conn:
        store(conn, Memory(), [Request(api.organization.id, drafts, microseconds(START))])
    return [f"tx-{nth:03}" for nth in sorted(range(300), key=lambda nth: (nth < 150, nth))]


def _at(nth: int) -> Any:
    return START + timedelta(seconds=nth // 150)


def ids(answer: Any) -> list[str]:
    return [event["transaction_id"] for event in answer["events"]]


def test_numbers_stay_numbers_and_texts_texts(api: Api, dsn: str) -> None:
    api.metric()
    properties = (
        '{"tokens": 1.10, "text": "1.10", "whole": 7, "deep": [{"x": -0.5}, 1e2, "1e2", null, true],'
        ' "long": 0.12345678901234567890123}'
    )
    (draft,) = read_one(
        f'{{"event": {{"transaction_id": "n", "code": "tokens", "properties": {properties}}}}}'.encode(),
        now=START,
    )
    with open_connection(dsn) as conn:
        store(conn, Memory(), [Request(api.organization.id, [draft], microseconds(START))])
    for path in ("/events/n", "/events"):
        text = api.call("GET", path).text.replace(" ", "")
        for pair in ('"tokens":1.10', '"text":"1.10"', '"whole":7', '"long":0.12345678901234567890123'):
            assert pair in text, text
        assert '"deep":[{"x":-0.5},100,"1e2",null,true]' in text, text


@pytest.mark.parametrize("per_page", [7, 100])
def test_pages_hold_each_event_once_though_many_share_an_instant(
    api: Api, sent: list[str], per_page: int
) -> None:
    found: list[str] = []
    page: int | None = 1
    while page is not None:
        answer = api.get("/events", page=page, per_page=per_page)
        found += ids(answer)
        page = answer["meta"]["next_page"]
    assert found == sent
    assert answer["meta"]["total_count"] == 300


def test_a_filter_by_subscription_and_time(api: Api, sent: list[str]) -> None:
    until = (START + timedelta(milliseconds=999)).isoformat()
    answer = api.get("/events", external_subscription_id="sub-1", timestamp_to=until, per_page=1000)
    assert ids(answer) == [one for one in sent if int(one[3:]) < 150 and int(one[3:]) % 3 == 1]


@pytest.mark.parametrize(
    "instant", ["0001-01-01T00:00:00Z", "9999-12-01", "9999-12-31T23:59:59.999999Z", "9999-12-31T20:00:00Z"]
)
def test_the_first_and_the_last_instants(api: Api, sent: list[str], instant: str) -> None:
    is_early = instant.startswith("0001")
    assert len(ids(api.get("/events", timestamp_from=instant, per_page=1000))) == (300 if is_early else 0)
    assert len(ids(api.get("/events", timestamp_to=instant, per_page=1000))) == (0 if is_early else 300)


def test_enriched_events_are_of_another_store(api: Api) -> None:
    assert api.code(403, "GET", "/events_enriched") == "endpoint_not_available"


LISTS: Any = (
    {},
    {"per_page": 20},
    {"page": 3, "per_page": 20},
    {"page": 99},
    {"code": "tokens"},
    {"code": "no such"},
    {"external_subscription_id": "sub-1"},
    {"timestamp_to": "2024-03-05T10:00:00.5Z"},
    {"timestamp_from": "2024-03-05T10:00:01Z", "timestamp_to": "2024-03-05T10:00:01Z"},
    {"timestamp_from": "2024-02-01", "timestamp_to": "2024-06-01T12:30:00Z", "per_page": 500},
)
"""What is asked for; the events are of two seconds from 10:00:00 on."""


@pytest.fixture
def amended(api: Api, sent: list[str]) -> list[str]:
    """Of those that were sent one is voided, and another moved to a later minute."""
    void = {"kind": "void", "transaction_id": "void", "event_transaction_id": "tx-007", "reason": "typo"}
    moved = {**void, "kind": "replace", "transaction_id": "moved", "event_transaction_id": "tx-200"}
    says = {"timestamp": START.timestamp() + 60, "properties": {"tokens": 1}}
    for amendment in (void, {**moved, **says}):
        api.post("/events/amendments", {"amendment": amendment})
    return sent


@pytest.mark.parametrize("arrivals", [(20_000,), (1,), (40, 400)])
@pytest.mark.parametrize("rolled_up", [False, True])
@pytest.mark.usefixtures("amended")
def test_a_list_is_the_same_whether_it_is_of_few_series_or_of_many(
    api: Api, monkeypatch: pytest.MonkeyPatch, rolled_up: bool, arrivals: tuple[int, ...]
) -> None:
    api.conn.rollback()
    while rolled_up and rollup.roll_up(api.conn):
        api.conn.commit()
    of_few = [api.get("/events", **query) for query in LISTS]
    assert of_few[0]["meta"]["total_count"] == 300
    monkeypatch.setattr(lists, "FEW_SERIES", 0)
    monkeypatch.setattr(lists, "ARRIVALS", arrivals)
    assert [api.get("/events", **query) for query in LISTS] == of_few


def test_a_list_of_many_series_asks_none_of_them(
    api: Api, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "FEW_SERIES", 2)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("each series was asked")

    monkeypatch.setattr(events, "page", never)
    monkeypatch.setattr(usage, "count_events", never)
    answer = api.get("/events", per_page=50)
    assert (ids(answer), answer["meta"]["total_count"]) == (sent[:50], 300)
