"""The two event routes as a client sees them, down to the database."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from permille import accelerator
from permille.app import intake_of
from permille.config import Config
from permille.core.metering.encoding import SeriesLayout
from permille.database.connections import open_pool
from permille.events.columns import UsualEvents
from permille.events.draft import Draft
from permille.events.engine import upkeep
from permille.events.log import Request
from permille.events.postgres.memory import Memory
from permille.events.postgres.metering import new_version
from permille.http import shares
from permille.http.shares import Loads
from permille.ingest import queue as queue_module, senders
from permille.ingest.asgi import LARGE_BODY_BYTES, EventIntake
from permille.ingest.decoders import lago
from permille.ingest.queue import LARGE_EVENTS, AwaitedRequest, Most, Queue, WaitingRequest
from permille.store import api_keys, organizations
from permille.usecases import metering
from tests.live import PATIENCE_SECONDS

NOW = datetime(2026, 10, 1, tzinfo=UTC)
Client = httpx2.AsyncClient
Talk = Callable[[Client], Awaitable[None]]


@pytest.fixture
def keys(db: psycopg.Connection[Any]) -> dict[str, str]:
    found = {}
    for name, clock in (("live", None), ("test", NOW)):
        made = organizations.add(db, name=name, test_now=clock, entity={}, now=NOW)
        found[name] = api_keys.add(db, organization_id=made.id, name=None, now=NOW).secret
    db.commit()
    return found


def talk(dsn: str, key: str, conversation: Talk, **settings: Any) -> None:
    async def run() -> None:
        pool = open_pool(dsn, size=4, name="test")
        intake = intake_of(Config(database_url=dsn, **settings), dsn, pool)
        await intake.start()
        transport = httpx2.ASGITransport(app=intake)
        headers = {"Authorization": f"Bearer {key}"}
        try:
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://t", headers=headers
            ) as client:
                await conversation(client)
        finally:
            await intake.stop()
            pool.close()

    asyncio.run(run())


def event(transaction: str, **fields: Any) -> dict[str, Any]:
    return {"transaction_id": transaction, "code": "c", "external_subscription_id": "s", **fields}


async def post(client: Client, path: str, body: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post(f"/api/v1/events{path}", content=content)


def test_one_event_and_its_repetition(dsn: str, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        sent = event(
            "t1", timestamp="1780586634.5", properties={"n": 1.10, "s": "x"}, precise_total_amount_cents="12"
        )
        first = await post(client, "", {"event": sent})
        assert first.status_code == 200
        answer = first.json()["event"]
        assert answer.pop("lago_id")
        assert answer == {
            "transaction_id": "t1",
            "lago_customer_id": None,
            "code": "c",
            "timestamp": "2026-06-04T15:23:54.500Z",
            "precise_total_amount_cents": "12.0",
            "properties": {"n": 1.1, "s": "x"},
            "lago_subscription_id": None,
            "external_subscription_id": "s",
            "created_at": "2026-10-01T00:00:00Z",
        }
        again = await post(client, "", {"event": sent})
        assert again.status_code == 422
        assert again.json() == {
            "status": 422,
            "error": "Unprocessable Entity",
            "code": "validation_errors",
            "error_details": {"transaction_id": ["value_already_exist"]},
            "message": "transaction_id: An event with this id is stored already: it counts once.",
        }

    talk(dsn, keys["test"], conversation)


def test_a_batch_is_all_or_nothing(dsn: str, db: Any, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        batch = [event("a"), event("b"), event("a")]
        answer = await post(client, "/batch", {"events": batch})
        assert answer.status_code == 422
        assert answer.json()["error_details"] == {"2": {"transaction_id": ["value_already_exist"]}}
        answer = await post(client, "/batch", {"events": batch[:2]})
        assert [one["transaction_id"] for one in answer.json()["events"]] == ["a", "b"]
        answer = await post(client, "/batch", {"events": [event("c"), event("b"), {"code": "c"}]})
        assert answer.json()["error_details"] == {"2": {"transaction_id": ["value_is_mandatory"]}}
        answer = await post(client, "/batch", {"events": [event("c"), event("b")]})
        assert answer.json()["error_details"] == {"1": {"transaction_id": ["value_already_exist"]}}

    talk(dsn, keys["live"], conversation)
    assert db.execute("select count(*) from event").fetchone() == (2,)


def test_requests_that_come_together_are_each_answered(dsn: str, db: Any, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        bodies = [{"event": event(f"t{number % 80}")} for number in range(100)]
        answers = await asyncio.gather(*(post(client, "", body) for body in bodies))
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) == 80
        assert statuses.count(422) == 20

    talk(dsn, keys["live"], conversation)
    assert db.execute("select count(*) from event").fetchone() == (80,)


def test_the_clock_is_the_organizations(dsn: str, keys: dict[str, str]) -> None:
    async def in_test_mode(client: Client) -> None:
        answer = await post(client, "", {"event": event("t")})
        assert answer.json()["event"]["timestamp"] == "2026-10-01T00:00:00.000Z"
        with psycopg.connect(dsn) as conn:
            conn.execute("update organization set test_now = '2026-12-01' where test_mode")
        answer = await post(client, "", {"event": event("u")})
        assert answer.json()["event"]["timestamp"] == "2026-12-01T00:00:00.000Z"

    talk(dsn, keys["test"], in_test_mode)


def test_who_is_not_known_is_turned_away(dsn: str, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        answer = await post(client, "", {"event": event("t")})
        assert answer.status_code == 401
        assert {"status": 401, "error": "Unauthorized"}.items() <= answer.json().items()
        assert answer.headers["www-authenticate"] == "Bearer"

    for key in ("", "wrong", keys["live"] + "x"):
        talk(dsn, key, conversation)


def test_bodies_that_are_none(dsn: str, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        for body in (b"", b"{", b"\xff", b'{"event": {"n": NaN}}'):
            assert (await post(client, "", body)).status_code == 400
        large = await post(client, "", b" " * 3_000)
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
        many = await post(client, "/batch", {"events": [event(f"m{n}") for n in range(4)]})
        assert many.json()["error_details"] == {"events": ["too_many_events"]}

    talk(dsn, keys["live"], conversation, max_body_bytes=2_000, events_batch_max=3)


def test_packed_events_are_taken_on_both_addresses(dsn: str, db: Any, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        for path, body in (("", {"event": event("a")}), ("/batch", {"events": [event("b"), event("c")]})):
            packed = gzip.compress(json.dumps(body).encode())
            headers = {"Content-Encoding": "gzip"}
            answer = await client.post(f"/api/v1/events{path}", content=packed, headers=headers)
            assert answer.status_code == 200, answer.text
            for wrong, encoding, status in (
                (packed[:-1], "gzip", 400),
                (json.dumps(body).encode(), "gzip", 400),
                (gzip.compress(b" " * 5_000), "gzip", 413),
                (packed, "br", 415),
            ):
                headers = {"Content-Encoding": encoding}
                answer = await client.post(f"/api/v1/events{path}", content=wrong, headers=headers)
                assert (answer.status_code, answer.json()["status"]) == (status, status)
                assert answer.headers.get("accept-encoding") == ("gzip" if status == 415 else None)

    talk(dsn, keys["live"], conversation, max_body_bytes=4_000)
    assert sorted(values(db)) == ["a", "b", "c"]


def test_a_client_that_goes_away_stores_nothing(dsn: str, db: Any, keys: dict[str, str]) -> None:
    async def conversation(intake: EventIntake) -> None:
        whole = json.dumps({"event": event("a")}).encode()
        messages = iter(
            [{"type": "http.request", "body": whole, "more_body": True}, {"type": "http.disconnect"}]
        )
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {keys['live']}".encode())]
        await intake({"type": "http", "path": "/api/v1/events", "headers": headers}, receive, send)
        assert sent == []

    async def run() -> None:
        pool = open_pool(dsn, size=4, name="test")
        intake = intake_of(Config(database_url=dsn), dsn, pool)
        await intake.start()
        try:
            await conversation(intake)
        finally:
            await intake.stop()
            pool.close()

    asyncio.run(run())
    assert values(db) == {}


def test_a_lost_database_connection_is_a_503_and_heals(dsn: str, keys: dict[str, str]) -> None:
    async def conversation(client: Client) -> None:
        assert (await post(client, "", {"event": event("a")})).status_code == 200
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'permille-ingest' and datname = current_database()"
            )
        statuses = []
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            answer = await post(client, "", {"event": event("b")})
            statuses.append(answer.status_code)
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "1"
            else:
                break
            await asyncio.sleep(0.1)
        assert statuses[-1] == 200
        assert set(statuses[:-1]) <= {503}

    talk(dsn, keys["live"], conversation)


def add_metric(db: psycopg.Connection[Any], expression: str | None) -> None:
    """A metric with code `c` in the organization `live`, or another expression of it."""
    row = db.execute("select id from organization where name = 'live'").fetchone()
    assert row is not None
    db.execute(
        "insert into billable_metric (id, organization_id, name, code, aggregation_type, field_name, expression,"
        " created_at, updated_at) values (gen_random_uuid(), %s, 'c', 'c', 'sum_agg', 'kb', %s, %s, %s)"
        " on conflict (organization_id, code) where deleted_at is null do update"
        " set expression = excluded.expression",
        [row[0], expression, NOW, NOW],
    )
    metering.refresh(db, organization_id=row[0], code="c")
    db.commit()


def values(db: psycopg.Connection[Any]) -> dict[str, Any]:
    rows = db.execute("select transaction_id, value from event").fetchall()
    db.commit()
    return dict(rows)


def test_an_expression_makes_the_property_that_is_counted(
    dsn: str, db: psycopg.Connection[Any], keys: dict[str, str]
) -> None:
    add_metric(db, "event.properties.bytes / 1000")

    async def conversation(client: Client) -> None:
        for number in range(3):  # the first is stored by the thread, the others at once
            answer = await post(client, "", {"event": event(f"t{number}", properties={"bytes": 2_500})})
            assert answer.status_code == 200
            assert answer.json()["event"]["properties"] == {"bytes": 2500, "kb": "2.5"}
        sent = [event("b0", properties={"bytes": 1_000, "kb": 7}), event("b1", properties={"x": 1})]
        refused = await post(client, "/batch", {"events": sent})
        assert refused.status_code == 422
        text = "expression_evaluation_failed: Variable: bytes not found"
        assert refused.json()["error_details"] == {"1": text}
        alone = await post(client, "", {"event": sent[1]})
        assert (alone.status_code, alone.json()["error_details"]) == (422, text)
        nameless = {**sent[1], "transaction_id": ""}
        assert (await post(client, "", {"event": nameless})).json()["error_details"] == text
        late = {**sent[1], "timestamp": "x"}
        assert (await post(client, "", {"event": late})).json()["error_details"] == {
            "timestamp": ["invalid_format"]
        }
        wrong = [*sent, late, {**sent[0], "transaction_id": None}, nameless, 5, {**sent[1], "properties": 5}]
        assert (await post(client, "/batch", {"events": wrong})).json()["error_details"] == {
            "1": text,
            "2": {"timestamp": ["invalid_format"]},
            "3": {"transaction_id": ["value_is_mandatory"]},
            "4": text,
            "5": {"event": ["invalid_format"]},
            "6": {"properties": ["invalid_format"]},
        }
        assert (await post(client, "/batch", {"events": sent[:1]})).status_code == 200
        await asyncio.to_thread(add_metric, db, "event.properties.bytes / 10")
        answer = await post(client, "", {"event": event("t3", properties={"bytes": 2_500})})
        assert answer.json()["event"]["properties"]["kb"] == "250.0"
        await asyncio.to_thread(add_metric, db, None)
        answer = await post(client, "", {"event": event("t4", properties={"kb": 9})})
        assert answer.json()["event"]["properties"] == {"kb": 9}

    talk(dsn, keys["live"], conversation)
    assert values(db) == {
        **{f"t{number}": Decimal("2.5") for number in range(3)},
        "b0": Decimal(1),
        "t3": Decimal(250),
        "t4": Decimal(9),
    }


def waiting(owner: UUID, size: int) -> WaitingRequest:
    drafts = [Draft(str(number), "c", "s", 0, None, {}) for number in range(size)]
    return AwaitedRequest(Request(owner, drafts, 0), asyncio.get_running_loop().create_future())


def test_a_flood_of_events_leaves_a_writer_to_others() -> None:
    async def run() -> None:
        now = 0.0
        loads = Loads(lambda: now)
        queue, flood, other = Queue(loads), UUID(int=1), UUID(int=2)
        loads.add(other, 0.001)
        queue.put(waiting(flood, LARGE_EVENTS))
        assert len(await asyncio.wait_for(queue.take(), 5)) == 1
        queue.put(waiting(flood, LARGE_EVENTS))
        taking = asyncio.create_task(queue.take())
        await asyncio.sleep(0.01)
        assert not taking.done(), "the next writer is left to others"
        now = 60.0
        queue.changed.set()
        assert len(await asyncio.wait_for(taking, 5)) == 1, "they are gone"

    asyncio.run(run())


def test_events_count_as_what_their_organization_takes() -> None:
    async def run() -> None:
        loads = Loads(lambda: 0.0)
        loads.strain.level = 1.0
        queue, flood, other = Queue(loads), UUID(int=1), UUID(int=2)
        for number in range(100):
            queue.put(waiting(flood, 1_000))
            if number < 50:
                queue.put(waiting(other, 1))
            queue.written(await queue.take())
        assert (loads.is_heavy(flood), loads.is_heavy(other)) == (True, False)

    asyncio.run(run())


def test_a_large_request_of_those_who_take_most_is_read_when_their_other_work_is_done(
    dsn: str, db: psycopg.Connection[Any], keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others feel it; what is small, and what others send, is read at once."""
    monkeypatch.setattr(shares, "HELD_SECONDS", 600.0)
    monkeypatch.setattr(senders, "KEY_SECONDS", 600.0)
    other = organizations.add(db, name="other", test_now=None, entity={}, now=NOW).id
    keys = {**keys, "other": api_keys.add(db, organization_id=other, name=None, now=NOW).secret}
    db.commit()
    owners: dict[str, UUID] = dict(db.execute("select name, id from organization").fetchall())

    async def run() -> None:
        pool = open_pool(dsn, size=4, name="test")
        now = 0.0
        loads = Loads(lambda: now)
        intake = intake_of(Config(database_url=dsn), dsn, pool, loads=loads)
        for who in ("live", "other"):
            assert await intake.keys.sender(keys[who])
        loads.add(other, 0.01)
        loads.add(owners["live"], 4.0)
        now = shares.NEW_SECONDS

        async def is_read(who: str, size: int) -> bool:
            """Whether its body is asked for soon."""
            asked = asyncio.Event()

            async def receive() -> dict[str, Any]:
                asked.set()
                return {"type": "http.disconnect"}

            headers = {"authorization": f"Bearer {keys[who]}", "content-length": str(size)}
            scope = {
                "path": "/api/v1/events/batch",
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
            task = asyncio.create_task(intake(scope, receive, no_answer), context=Context())
            for _ in range(100):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return asked.is_set()

        async def no_answer(_message: Any) -> None:
            raise AssertionError

        for level, is_large_read in ((0.0, True), (1.0, False)):
            loads.strain.level = level
            async with loads.piece(owners["live"]):
                assert await is_read("live", LARGE_BODY_BYTES + 1) == is_large_read
                assert await is_read("live", LARGE_BODY_BYTES)
                assert await is_read("other", LARGE_BODY_BYTES + 1)
        assert await is_read("live", LARGE_BODY_BYTES + 1)
        pool.close()

    asyncio.run(run())


def test_a_flood_of_one_organization_keeps_no_place_of_another() -> None:
    async def run() -> None:
        queue, flood, other = Queue(), UUID(int=1), UUID(int=2)
        taken = [queue.put(waiting(flood, 1_000)) for _ in range(100)]
        assert taken == [True] * 50 + [False] * 50
        assert queue.put(waiting(other, 1))
        assert queue.put(waiting(other, 1))
        first, second = await queue.take(), await asyncio.wait_for(queue.take(), 5)
        assert [each.request.organization_id for each in first] == [flood]
        assert [each.request.organization_id for each in second] == [other, other], "not behind the flood"
        next_one = asyncio.create_task(queue.take())
        await asyncio.sleep(0.01)
        assert not next_one.done(), "a writer is left to others while they are there"
        queue.written(first)
        assert [each.request.organization_id for each in await next_one] == [flood] * 2
        rest = 0
        queue.close()
        while group := await queue.take():
            rest += len(group)
        assert rest == 47
        assert (queue.events, queue.waiting) == (0, {})

    asyncio.run(run())


def test_an_organization_that_is_alone_has_all_writers_and_large_groups() -> None:
    async def run() -> None:
        queue, only = Queue(), UUID(int=1)
        for _ in range(5):
            assert queue.put(waiting(only, 1_000))
        assert [len(await queue.take()) for _ in range(3)] == [2, 2, 1]
        queue, others = Queue(), [UUID(int=number) for number in range(4)]
        for _ in range(2):
            assert all(queue.put(waiting(other, 10)) for other in others)
        assert len(await queue.take()) == 8, "small ones of several are stored together"

    asyncio.run(run())


def test_a_small_group_waits_for_company_and_only_as_long_as_some_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_module, "PAUSE_SECONDS", 60)

    async def run() -> None:
        queue, only = Queue(), UUID(int=1)

        async def taken() -> int:
            group = await asyncio.wait_for(queue.take(), 5)
            queue.written(group)
            return len(group)

        for size in (3, 3):  # three clients, each of which sends its next request after an answer
            for _ in range(size):
                assert queue.put(waiting(only, 1))
            assert await taken() == size
        first, second = asyncio.create_task(queue.take()), asyncio.create_task(queue.take())
        assert queue.put(waiting(only, 1))
        await asyncio.sleep(0.01)
        assert not first.done(), "two more are expected"
        for _ in range(2):
            assert queue.put(waiting(only, 1))
        group = await asyncio.wait_for(first, 5)
        assert len(group) == 3
        assert queue.put(waiting(only, queue_module.ENOUGH_EVENTS))
        assert len(await asyncio.wait_for(second, 5)) == 1, "a large one waits for nobody"
        queue.written(group)
        assert queue.put(waiting(only, 1))
        last = asyncio.create_task(queue.take())
        await asyncio.sleep(0.01)
        assert not last.done()
        queue.close()
        assert len(await asyncio.wait_for(last, 5)) == 1

    asyncio.run(run())


def test_a_small_group_does_not_wait_for_long() -> None:
    async def run() -> None:
        queue, only = Queue(), UUID(int=1)
        for _ in range(2):
            assert queue.put(waiting(only, 1))
        queue.written(await queue.take())
        for _ in range(2):
            assert queue.put(waiting(only, 1))
            queue.written(await asyncio.wait_for(queue.take(), 5))
        assert queue.put(waiting(only, 1))
        assert len(await asyncio.wait_for(queue.take(), 5)) == 1, (
            "one that is alone waits for some milliseconds"
        )

    asyncio.run(run())


def test_what_was_long_ago_is_not_expected_again() -> None:
    most = Most()
    most.note(5)
    assert most.of_late(1.0) == 5
    most.note(2)
    assert most.of_late(1.2) == 5
    assert [most.of_late(now) for now in (2.0, 3.0)] == [2, 0]


def test_large_requests_of_one_organization_let_others_in_between(
    dsn: str, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them that have come in together are not read one after the other while another's waits."""
    order: list[str] = []
    real = lago.read_batch

    def noted(body: bytes, **named: Any) -> list[Draft]:
        order.append("large" if len(body) > 65_536 else "small")
        return real(body, **named)

    monkeypatch.setattr(lago, "read_batch", noted)

    async def conversation(client: Client) -> None:
        long = "x" * 900
        large = [
            {"events": [event(f"{number}-{nth}", properties={"a": long}) for nth in range(100)]}
            for number in range(10)
        ]
        await post(client, "/batch", {"events": [event("first")]})  # whose key it is is known from now on
        other = httpx2.AsyncClient(
            transport=client._transport,
            base_url="http://t",
            headers={"Authorization": f"Bearer {keys['live']}"},
        )
        order.clear()
        waiting = [asyncio.create_task(post(client, "/batch", body)) for body in large]
        waiting.append(asyncio.create_task(post(other, "/batch", {"events": [event("small")]})))
        answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200] * 11
        assert order.index("small") < 5, order

    talk(dsn, keys["live"], conversation, accelerator="off")


def test_large_bodies_are_decoded_by_a_thread(
    dsn: str, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[bool] = []
    real = lago.read_batch

    def noted(body: bytes, **named: Any) -> list[Draft]:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return real(body, **named)

    monkeypatch.setattr(lago, "read_batch", noted)

    async def conversation(client: Client) -> None:
        for size in (50, 100, 400):
            sent = [event(f"{size}-{nth}", properties={"a": "x" * 900}) for nth in range(size)]
            answer = await post(client, "/batch", {"events": sent})
            assert answer.status_code == 200, answer.text

    talk(dsn, keys["live"], conversation, accelerator="off")
    assert on_loop == [True, False, False]


def test_both_ways_store_and_answer_the_same(
    dsn: str, db: Any, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In C what was met before, in Python all; repeated, refused and with the metering changed in between."""
    ((owner,),) = db.execute("select id from organization where test_mode").fetchall()
    answers: list[list[tuple[int, bytes]]] = []
    rows: list[list[Any]] = []
    real, read_in_c = Memory.read_usual, 0

    def counted(*args: Any, **named: Any) -> UsualEvents | None:
        nonlocal read_in_c
        found = real(*args, **named)
        read_in_c += found is not None
        return found

    monkeypatch.setattr(Memory, "read_usual", counted)
    for way in ("on", "off") if accelerator.IS_BUILT else ("off",):

        async def conversation(client: Client) -> None:
            said = []
            for turn in ("a", "b", "c"):
                sent = [
                    event(
                        f"{turn}{number}", properties={"n": number, "more": [number]}, timestamp=1_780_586_634
                    )
                    for number in range(3)
                ]
                ahead = [event(f"{turn}ahead{number}", code="ahead") for number in range(2)]
                repeated = [*sent[:2], event(f"{turn}x")]
                for path, body in (
                    ("", {"event": event(turn, precise_total_amount_cents="1.50", timestamp="1780586634.5")}),
                    ("/batch", {"events": sent}),
                    ("/batch", {"events": repeated}),
                    ("/batch", {"events": ahead}),
                    ("/batch", {"events": [event(f"{turn}y"), event(f"{turn}z", code="ahead")]}),
                    ("", {"event": event("wrong", timestamp="x")}),
                ):
                    answer = await post(client, path, body)
                    said.append((answer.status_code, answer.content))
                if turn == "b":
                    change_metering()
            answers.append(said)

        def change_metering() -> None:
            with psycopg.connect(dsn) as conn:
                new_version(conn, owner)

        db.execute("truncate event, series, metering, metering_version, advance_event cascade")
        made = SeriesLayout(field_name=None, keys=(), version=0, in_advance=True)
        upkeep.refresh(db, organization_id=owner, code="ahead", wanted=made)
        db.commit()
        talk(dsn, keys["test"], conversation, accelerator=way)
        found = db.execute(
            "select s.external_subscription_id, s.code, s.dimensions, e.at, e.created_at, e.identity, e.value,"
            " e.transaction_id, e.precise_total_amount_cents, e.extra, a.organization_id"
            " from event e join series s on s.id = e.series_id left join advance_event a on a.identity = e.identity"
            " order by e.transaction_id"
        ).fetchall()
        db.commit()
        rows.append(found)
    assert read_in_c == (12 if accelerator.IS_BUILT else 0)
    assert sum(row[-1] is not None for row in rows[0]) == 9
    assert len(rows[0]) == 24
    assert all(each == rows[0] for each in rows)
    assert all(each == answers[0] for each in answers)
