"""What plans take for granted is checked by the statement that stores their calls: what changed in between counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.core.llm.call import METRICS
from permille.events.draft import Draft
from permille.events.log import PlannedCalls, Request
from permille.events.postgres import writer
from permille.ingest.asgi import EventIntake
from permille.ingest.planned import PlannedStore
from permille.store import call_terms, organizations

from .conftest import NOW, Client, Talk
from .test_planned import chat, learn, read
from .test_traces import PROTOBUF, export, message, span

__all__ = ["read"]

Change = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Awaitable[Any]]]:
    """What happens, once, when a request is about to be stored."""
    waiting: list[Callable[[], Awaitable[Any]]] = []
    store = EventIntake._store

    async def changed(self: EventIntake, requests: Any) -> None:
        if waiting:
            await waiting.pop()()
        await store(self, requests)

    monkeypatch.setattr(EventIntake, "_store", changed)
    return waiting


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each look before storing was about."""
    found: list[int] = []
    look = PlannedStore._look_at

    async def noted(self: PlannedStore, organization_id: Any, calls: Any) -> Any:
        found.append(len(calls))
        return await look(self, organization_id, calls)

    monkeypatch.setattr(PlannedStore, "_look_at", noted)
    return found


async def edit(client: Client, *filters: dict[str, Any]) -> None:
    metric = (await client.get("/billable_metrics"))["billable_metrics"][0]
    body = {"billable_metric": {**metric, "filters": list(filters)}}
    answer = await client.http.put("/api/v1/billable_metrics/llm_tokens", json=body)
    assert answer.status_code == 200, answer.text


async def list_more_types(client: Client) -> None:
    model = {"key": "model", "values": ["gpt-5.4-mini"]}
    await edit(client, {"key": "type", "values": ["input", "cached_input", "output"]}, model)


async def add_dimension(client: Client) -> None:
    """Another dimension: the metric's series are made again."""
    types = {"key": "type", "values": ["input", "cached_input", "output"]}
    await edit(client, types, {"key": "user", "values": ["u"]})


async def add_alias(client: Client) -> None:
    alias = {"name": "openai/gpt-5.4-mini-2026-03-17", "model": "openai/own"}
    await client.post("/llm/model_aliases", {"model_alias": alias})


async def add_rule(client: Client) -> None:
    await client.post("/customers", {"customer": {"external_id": "other"}})
    subscription = {"external_customer_id": "other", "plan_code": "p", "external_id": "ruled"}
    await client.post("/subscriptions", {"subscription": subscription})
    rule = {"field": "user", "value": "u", "external_subscription_id": "ruled"}
    await client.post("/llm/payer_rules", {"payer_rule": rule})


async def end(client: Client) -> None:
    answer = await client.http.delete("/api/v1/subscriptions/sub")
    assert answer.status_code == 200, answer.text


async def nothing(_: Client) -> None:
    pass


class Outcome(NamedTuple):
    """What becomes of a call of two counts, where something changes before it is stored."""

    status: str = "counted"
    events: int = 2
    model: str = "gpt-5.4-mini"
    payer: str = "sub"


RULED = {"properties": {"user": "u"}, "payer_requested": True}
OUTCOMES: list[tuple[Change, dict[str, Any], Outcome]] = [
    (nothing, {}, Outcome()),
    (add_rule, RULED, Outcome(payer="ruled")),
    (list_more_types, {}, Outcome(events=3)),
    (add_dimension, {}, Outcome(events=3)),
    (add_alias, {}, Outcome(events=3, model="own")),
    (end, {}, Outcome("held", 0)),
]
"""One after the other: a change stays."""


def test_what_changes_before_a_planned_call_is_stored_counts(
    talk: Callable[[Talk], None], read: list[int], looks: list[int], meanwhile: list[Any]
) -> None:
    async def conversation(client: Client) -> None:
        for change, more, outcome in OUTCOMES:
            await learn(client, read)
            await client.send(chat(), chat())
            looks.clear()
            read.clear()
            meanwhile.append(partial(change, client))
            call = chat(**more)
            (found,) = await client.send(call)
            assert meanwhile == []
            assert (found["status"], len(found["events"])) == outcome[:2]
            assert (looks, read) == (([], []) if change is nothing else ([1], [1]))
            stored = (await client.get("/events?per_page=1000"))["events"]
            name = f"openai:{call['response']['id']}"
            own = [each for each in stored if each["transaction_id"].startswith(name)]
            assert len(own) == outcome.events
            for each in own:
                assert each["properties"]["model"] == outcome.model
                assert each["external_subscription_id"] == outcome.payer

    talk(conversation)


def test_a_call_that_is_stored_as_an_event_meanwhile_is_repeated(
    talk: Callable[[Talk], None], read: list[int], meanwhile: list[Any]
) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        call = chat()
        event = {
            "transaction_id": f"openai:{call['response']['id']}",
            "code": "llm_tokens",
            "external_subscription_id": "other",
            "properties": {"quantity": 1},
        }
        meanwhile.append(lambda: client.post("/events", {"event": event}))
        statuses = [each["status"] for each in await client.send(call, chat())]
        assert statuses == ["repeated", "counted"]

    talk(conversation)


def test_a_test_clock_that_moves_meanwhile_changes_nothing_of_a_call(
    talk: Callable[[Talk], None], read: list[int], meanwhile: list[Any], db: psycopg.Connection[Any]
) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        (row,) = db.execute("select id from organization").fetchall()
        db.rollback()

        async def later() -> None:
            organizations.set_clock(db, organization_id=row[0], now=NOW.replace(day=2))
            db.commit()

        meanwhile.append(later)
        read.clear()
        (found,) = await client.send(chat())
        assert (found["status"], read) == ("counted", [])
        assert {each["timestamp"] for each in found["events"]} == {"2026-10-01T00:00:00.000Z"}

    talk(conversation)


def test_one_that_is_not_as_was_taken_for_granted_keeps_no_other_of_its_group(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any], dsn: str
) -> None:
    async def conversation(client: Client) -> None:
        (row,) = db.execute("select id from organization").fetchall()
        owner, stamp = row[0], call_terms.of_organization(db, row[0]).stamp
        db.rollback()

        def request(name: str, payer: str = "sub", at: datetime = NOW, under: str = stamp) -> Request:
            when = microseconds(at)
            calls = PlannedCalls(
                stamp=under, identities=[f"{name}:0", name], payers=["sub", payer], ats=[when] * 2
            )
            draft = Draft(name, "llm_tokens", payer, when, None, {"quantity": 1, "type": "input"})
            return Request(owner, [draft], when, counts_once=calls.identities, planned=calls)

        def group(nth: int) -> list[Request]:
            return [
                request(f"good-{nth}"),
                request(f"terms-{nth}", under="other"),
                request(f"nobody-{nth}", payer="nobody"),
                request(f"early-{nth}", at=NOW - timedelta(days=1)),
                request("before"),
                request(f"second-{nth}"),
            ]

        memory = writer.Memory()
        conn = writer.open_connection(dsn)
        writer.store(conn, memory, [request("before")])
        for nth, is_on_loop in enumerate((False, True)):
            requests = group(nth)
            if is_on_loop:
                async with await writer.open_async_connection(dsn) as on_loop:
                    assert await writer.store_at_once(on_loop, memory, requests)
            else:
                writer.store(conn, memory, requests)
            assert [each.duplicates for each in requests] == [[], [0], [0], [0], [0], []]
        twice = [request("twice"), request("twice")]
        async with await writer.open_async_connection(dsn) as on_loop:
            assert not await writer.store_at_once(on_loop, memory, twice)
        writer.store(conn, memory, twice)
        assert [each.duplicates for each in twice] == [[], [0]]
        conn.close()
        stored = {each["transaction_id"] for each in (await client.get("/events"))["events"]}
        assert stored == {"before", "good-0", "second-0", "good-1", "second-1", "twice"}

    talk(conversation)


def test_a_call_that_comes_many_times_at_once_by_two_roads_counts_once(
    talk: Callable[[Talk], None], read: list[int]
) -> None:
    async def conversation(client: Client) -> None:
        for number in range(4):
            await export(client, message(span(f"warm-{number}")), PROTOBUF)
        await learn(client, read)
        calls = [chat() for _ in range(3)]
        names = [call["response"]["id"] for call in calls]
        spans = message(
            *(span(name, span_id=f"{number:016x}") for number, name in enumerate(names, 1)),
        )
        answers = await asyncio.gather(
            *(client.send(*calls) if nth % 2 else export(client, spans, PROTOBUF) for nth in range(20))
        )
        statuses = Counter(each["status"] for answer in answers[1::2] for each in answer)
        assert statuses["counted"] <= 3
        assert statuses.total() == 30
        stored = (await client.get("/events?per_page=1000"))["events"]
        kinds = Counter(
            (each["transaction_id"].partition(":output")[0], each["properties"]["type"])
            for each in stored
            if any(name in each["transaction_id"] for name in names)
        )
        assert kinds == {(f"openai:{name}", kind): 1 for name in names for kind in ("input", "output")}

    talk(conversation)


def test_the_database_knows_the_metrics_of_calls(db: psycopg.Connection[Any]) -> None:
    made = organizations.add(db, name="test", test_now=None, entity={}, now=NOW)
    for code in (*METRICS, "llm_other"):
        db.execute(
            "insert into billable_metric (id, organization_id, name, code, aggregation_type, created_at, updated_at)"
            " values (gen_random_uuid(), %s, 'm', %s, 'sum_agg', now(), now())",
            [made.id, code],
        )
    assert call_terms.of_organization(db, made.id).listed.keys() == set(METRICS)
