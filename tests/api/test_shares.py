"""Requests at once: each organization has its own, and what takes too long is cut off and said so."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from permille import processors
from permille.api.http import Call, Engine, application, route
from permille.config import from_environment
from permille.core.errors import Refusal
from permille.database.connections import Limits, open_pool, processor_seconds, processor_waits
from permille.http import shares
from permille.http.shares import (
    EVENTS,
    HELD_SECONDS,
    LATELY_SECONDS,
    NEW_SECONDS,
    Gate,
    Loads,
    Shares,
    Turns,
    Workshop,
    too_many_requests,
)
from permille.http.strain import MOST
from permille.niceness import NICE
from permille.store import api_keys, organizations
from permille.usecases.key_use import KeyUse
from tests.live import PATIENCE_SECONDS

NOW = datetime(2026, 10, 1, tzinfo=UTC)
Get = Callable[[str, str], Coroutine[Any, Any, httpx2.Response]]


@pytest.fixture
def keys(db: psycopg.Connection[Any]) -> list[str]:
    """Two keys of an organization, and one of another."""
    found = []
    for name, count in (("busy", 2), ("other", 1)):
        made = organizations.add(db, name=name, test_now=None, entity={}, now=NOW)
        for _ in range(count):
            key = api_keys.add(db, organization_id=made.id, name=None, now=NOW)
            found.append(key.secret)
    db.commit()
    return found


def felt(clock: Callable[[], float], level: float = 1.0) -> Loads:
    """Where others feel so much of those who take most."""
    loads = Loads(clock)
    loads.strain.level = level
    return loads


def begun(piece: AbstractAsyncContextManager[bool]) -> asyncio.Task[bool]:
    """Another task that begins the piece."""
    return asyncio.create_task(piece.__aenter__(), context=Context())


class Doors:
    """Endpoints that take their time."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun = threading.Semaphore(0)

    def slow(self, _call: Call) -> dict[str, Any]:
        """It has a connection, and waits until it is let go."""
        self.begun.release()
        assert self.go_on.wait(PATIENCE_SECONDS)
        return {}

    def quick(self, _call: Call) -> dict[str, Any]:
        return {}

    def connection(self, call: Call) -> dict[str, Any]:
        pid = call.conn.info.backend_pid
        return {"nice": os.getpriority(os.PRIO_PROCESS, pid)}

    def long(self, call: Call) -> dict[str, Any]:
        call.conn.execute("select pg_sleep(30)")
        return {}

    def locked(self, call: Call) -> dict[str, Any]:
        call.conn.execute("select pg_advisory_xact_lock(77)")
        return {}

    def serve(
        self, dsn: str, talk: Callable[[Get], Awaitable[None]], *, turns: Turns, limits: Limits
    ) -> None:
        async def run() -> None:
            pool = open_pool(dsn, size=4, name="test-shares", limits=limits)
            heavy_pool = open_pool(dsn, size=1, name="test-heavy", limits=limits, gives_way=True)
            engine = Engine(
                config=replace(from_environment(), database_url=dsn),
                pool=pool,
                heavy_pool=heavy_pool,
                key_use=KeyUse(pool),
                turns=turns,
            )
            names = ("slow", "quick", "connection", "long", "locked")
            app = application(
                [route(engine, ["GET"], f"/{name}", getattr(self, name), scope=None) for name in names]
            )
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:

                async def get(path: str, key: str) -> httpx2.Response:
                    return await client.get(path, headers={"Authorization": f"Bearer {key}"})

                try:
                    await talk(get)
                finally:
                    self.go_on.set()
                    pool.close()
                    heavy_pool.close()

        asyncio.run(run())


def test_an_organization_leaves_connections_to_others(dsn: str, keys: list[str]) -> None:
    now = 0.0
    doors = Doors()

    async def talk(get: Get) -> None:
        nonlocal now
        for key in keys:
            assert (await get("/quick", key)).status_code == 200  # whose keys they are is known from now on
        now += NEW_SECONDS
        busy = [asyncio.create_task(get("/slow", keys[number % 2])) for number in range(10)]
        for _ in range(2):
            await asyncio.to_thread(doors.begun.acquire)
        refused = [task for task in busy if task.done()]
        assert [task.result().status_code for task in refused] == [429] * 5
        assert refused[0].result().headers["retry-after"] == "1"
        assert refused[0].result().json()["code"] == "too_many_requests"
        for _ in range(5):
            answer = await asyncio.wait_for(get("/quick", keys[2]), 5)
            assert answer.status_code == 200
        assert not doors.begun.acquire(blocking=False), "two at once, by whatever key"
        doors.go_on.set()
        assert sorted(answer.status_code for answer in await asyncio.gather(*busy)) == [200] * 5 + [429] * 5
        assert (await get("/quick", keys[0])).status_code == 200

    doors.serve(dsn, talk, turns=Turns(2, 3, loads=Loads(lambda: now)), limits=Limits())


def test_an_organization_that_takes_most_gives_way(dsn: str, keys: list[str]) -> None:
    """One of its requests at a time, on a connection whose process lets others go first; and as before once others are gone."""
    now = 0.0
    doors, loads = Doors(), felt(lambda: now)
    turns = Turns(4, 3, loads=loads)

    async def talk(get: Get) -> None:
        nonlocal now
        usual = {"nice": os.getpriority(os.PRIO_PROCESS, 0)}
        for key in keys:
            assert (await get("/connection", key)).json() == usual
        now += NEW_SECONDS
        loads.add(turns.owner(keys[0]), 4.0)
        assert (await get("/connection", keys[1])).json() == {"nice": max(NICE, usual["nice"])}, (
            "by whatever key"
        )
        assert (await get("/connection", keys[2])).json() == usual
        heavy = [asyncio.create_task(get("/slow", keys[0])) for _ in range(4)]
        assert await asyncio.to_thread(doors.begun.acquire)
        others = [asyncio.create_task(get("/slow", keys[2])) for _ in range(2)]
        for _ in others:
            assert await asyncio.to_thread(doors.begun.acquire)
        assert not doors.begun.acquire(blocking=False), "of the heavy one, one at a time"
        doors.go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*heavy, *others)} == {200}
        now += 2 * LATELY_SECONDS
        loads.add(turns.owner(keys[0]), 3.0)
        assert (await get("/connection", keys[0])).json() == usual, "the only one that is there"

    doors.serve(dsn, talk, turns=turns, limits=Limits())


def test_who_takes_more_than_others_on_average_is_heavy() -> None:
    now = 0.0
    loads = felt(lambda: now)
    loads.add("most", 1.5)
    assert not loads.is_heavy("most"), "alone"
    loads.add("little", 0.9)
    loads.add("less", 0.05)
    assert [loads.is_heavy(each) for each in ("most", "little", "less", "new")] == [True, False, False, False]
    loads.add("less", 3.0)
    assert [loads.is_heavy(each) for each in ("most", "little", "less")] == [False, False, True]
    loads.strain.level = 0.0
    assert not loads.is_heavy("less"), "nobody feels it"
    loads.strain.level = 1.0
    loads.add("little", 3.0)
    assert not loads.is_heavy("little"), "all of them take much"
    loads.add("new", 0.01)
    assert loads.is_heavy("little")
    now += 4 * LATELY_SECONDS
    loads.add("less", 0.1)
    assert not loads.is_heavy("less"), "the others are gone"
    now += 4 * LATELY_SECONDS
    assert not loads.is_heavy("less", more=9.0), "nobody is there"


def test_time_on_a_processor_counts_and_waiting_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "LITTLE", 0.05)

    def burn(_is_heavy: bool) -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    async def run() -> None:
        loads = felt(lambda: 0.0)
        turns = Turns(loads=loads)
        owners = {name: UUID(int=number) for number, name in enumerate(("waits", "reckons"))}
        for name, owner in owners.items():
            turns.learn(name, owner)
        await turns.run("waits", lambda _: time.sleep(0.3))
        await turns.run("reckons", burn)
        assert loads.is_heavy(owners["reckons"])
        assert not loads.is_heavy(owners["waits"])
        await turns.run("no key of ours", burn)
        assert loads.latest(3, 1.0) == [*reversed(owners.values())], "it is nobody's"

    asyncio.run(run())


def test_a_heavy_owner_does_one_thing_at_a_time_and_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rests = 0.0, list[float]()

    async def rest(seconds: float) -> None:
        if seconds > 0:
            rests.append(round(seconds, 3))

    async def run() -> None:
        nonlocal now
        loads = felt(lambda: now, 2.0)
        turns, workshop = Turns(loads=loads), Workshop(loads=loads)
        owner = UUID(int=1)
        turns.learn("key", owner)
        loads.add("other", 0.01)
        loads.add(owner, 4.0)
        now += NEW_SECONDS

        def work(seconds: float, *_: Any) -> None:
            nonlocal now
            assert not under_way
            under_way.append(seconds)
            now += seconds
            time.sleep(0.01)
            under_way.remove(seconds)

        under_way: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", rest)
        await asyncio.gather(
            turns.run("key", partial(work, 0.25)),
            turns.run("key", partial(work, 0.5)),
            workshop.make(owner, partial(work, 2.1)),
            turns.run("key", partial(work, 0.125)),
        )
        workshop.close()
        assert rests == [0.5, 1.0, 2.0]
        assert loads.is_heavy(owner)
        now += 3 * LATELY_SECONDS
        rests.clear()
        loads.add(owner, 4.0)
        async with loads.piece(owner) as is_heavy:
            now += 1.0
        async with loads.piece(owner):
            assert (is_heavy, rests) == (False, []), "alone"

    asyncio.run(run())


def test_who_has_just_come_does_one_thing_at_a_time() -> None:
    async def run() -> None:
        now = 0.0
        loads = Loads(lambda: now)
        async with loads.piece("alone"), loads.piece("alone"):
            loads.add("alone", 0.0)
        async with loads.piece("new") as is_heavy:
            assert not is_heavy
            second = begun(loads.piece("new"))
            await asyncio.sleep(0)
            loads.add("new", 0.0)
            now += NEW_SECONDS
            third = begun(loads.piece("new"))
            await third
            assert not second.done(), "it is known now"
        await second
        loads.add("other", 0.0)
        now += 1.5 * NEW_SECONDS
        loads.add("other", 0.0)
        async with loads.piece("new"):
            again = begun(loads.piece("new"))
            await asyncio.sleep(0)
            assert not again.done(), "it comes again"
        await again

    asyncio.run(run())


def test_long_work_of_a_heavy_owner_keeps_its_other_work_waiting_for_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        loads = felt(lambda: 0.0)
        loads.add("other", 0.01)
        loads.add("heavy", 4.0)
        async with loads.piece("heavy"):  # it goes on
            piece = loads.piece("heavy")
            next_one = begun(piece)
            await asyncio.sleep(0)
            assert not next_one.done()
            monkeypatch.setattr(shares, "HELD_SECONDS", 600.0)
            await asyncio.wait_for(next_one, 30)
            last = begun(loads.piece("heavy"))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not last.done(), "the one before is not done"
        await piece.__aexit__(None, None, None)
        await asyncio.wait_for(last, 30)

    monkeypatch.setattr(shares, "HELD_SECONDS", 0.01)
    asyncio.run(run())


def test_who_rests_stays_heavy_and_its_rest_counts_where_it_waits_for_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, while_it_rested = 0.0, list[bool]()
    loads = felt(lambda: now, 4.0)

    async def pass_by(seconds: float) -> None:
        nonlocal now
        now += 0.9 * seconds
        while_it_rested.append(loads.is_heavy("heavy"))
        now += 0.1 * seconds

    async def run() -> None:
        nonlocal now
        loads.add("other", 0.01)
        loads.add("heavy", 1.1)
        async with loads.piece("heavy"):
            now += 0.5
        async with loads.piece("heavy"):
            assert now == pytest.approx(2.5)
        loads.add("other", 0.01)
        assert while_it_rested == [True]
        assert loads.is_heavy("heavy"), "it would not have rested by itself"
        now += LATELY_SECONDS
        assert not loads.is_heavy("heavy"), "it wants no more"

    monkeypatch.setattr(asyncio, "sleep", pass_by)
    asyncio.run(run())


def test_a_piece_within_a_piece_is_a_part_of_it() -> None:
    async def run() -> None:
        loads = felt(lambda: 0.0)
        loads.add("other", 0.01)
        loads.add("heavy", 4.0)
        async with loads.piece("heavy"):
            async with asyncio.timeout(HELD_SECONDS / 2), loads.piece("heavy"):
                next_one = begun(loads.piece("heavy"))
            await asyncio.sleep(0)
            assert not next_one.done(), "the outer one goes on"
        await next_one

    asyncio.run(run())


def test_between_the_steps_of_long_work_a_heavy_owner_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    def work(loads: Loads, rest: Callable[[float, float], None]) -> None:
        rest(0.5, 3.0)
        assert rests == [], "alone"
        loads.add("other", 0.01)
        rest(0.25, 0.05)
        assert rests == [], "it takes little of a processor, however long that takes"
        for seconds in (0.5, 9.0):
            rest(seconds, 0.3)
        assert rests == [0.5, 2.0]
        loads.strain.level = 3.0
        rest(0.25, 0.3)
        loads.strain.level = 0.0
        rest(0.25, 0.3)
        assert rests == [0.5, 2.0, 0.75]

    async def run() -> None:
        loads = felt(lambda: 0.0)
        turns = Turns(loads=loads)
        loads.add("moves", 0.9)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await turns.run("moves", lambda _: work(loads, turns.rest_of("moves")))

    asyncio.run(run())


def test_the_steps_of_long_work_have_their_turns_among_what_else_a_heavy_owner_does() -> None:
    """Never two things at once, and neither waits for the other's end."""
    done: list[str] = []
    under_way: list[str] = []

    def step(name: str) -> None:
        under_way.append(name)
        time.sleep(0.01)
        done.append(name)
        assert under_way == [name]
        under_way.remove(name)

    async def run() -> None:
        loads = felt(time.monotonic, 0.5)
        loads.add("other", 0.01)
        turns = Turns(loads=loads)
        rest = turns.rest_of("heavy")

        has_begun = threading.Event()

        def move(_is_heavy: bool) -> None:
            has_begun.set()
            for _ in range(4):
                step("move")
                loads.add("heavy", 4.0)
                rest(0.01, 0.0)

        moving = asyncio.create_task(turns.run("heavy", move, "/clock"))
        await asyncio.to_thread(has_begun.wait, PATIENCE_SECONDS)
        for _ in range(3):
            await turns.run("heavy", lambda _: step("read"), "/read")
        await moving

    asyncio.run(run())
    assert sorted(done) == ["move"] * 4 + ["read"] * 3
    assert "readread" not in "".join(done[:6]), "the next read waits for a step"
    assert "movemovemove" not in "".join(done[:6])


def test_a_step_whose_turn_does_not_come_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "STEP_WAITS_SECONDS", 0.05)
    now = 0.0

    async def run() -> None:
        nonlocal now
        loads = felt(lambda: now)
        turns, has_begun, goes_on = Turns(loads=loads), threading.Event(), threading.Event()

        def move(_is_heavy: bool) -> str:
            has_begun.set()
            goes_on.wait(PATIENCE_SECONDS)
            turns.rest_of("heavy")(0.01, 0.0)
            return "moved"

        loads.add("other", 0.01)
        loads.add("heavy", 0.01)
        now += NEW_SECONDS
        moving = asyncio.create_task(turns.run("heavy", move))
        await asyncio.to_thread(has_begun.wait, PATIENCE_SECONDS)
        loads.add("heavy", 4.0)
        await begun(loads.piece("heavy"))
        goes_on.set()
        async with asyncio.timeout(HELD_SECONDS / 2):
            assert await moving == "moved"

    asyncio.run(run())


def test_what_the_database_does_for_a_thread_counts(dsn: str) -> None:
    pool = open_pool(dsn, size=1, name="test")
    began = processor_seconds(), time.thread_time()
    with pool.connection() as conn:
        conn.execute("select sum(n) from generate_series(1, 300000) n")
    took, own = processor_seconds() - began[0], time.thread_time() - began[1]
    with pool.connection() as conn:
        pass
    assert took - own > 0.005
    assert processor_seconds() - began[0] - (time.thread_time() - began[1]) < took - own + 0.005
    pool.close()


def test_what_a_thread_waits_counts_and_what_the_database_waits_for_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = {"own": 1.0, "database": 10.0}

    def seconds_of(process: Path) -> tuple[float, float]:
        return 0.0, waits["own" if process == processors.THIS_THREAD else "database"]

    monkeypatch.setattr(processors, "seconds_of", seconds_of)
    pool = open_pool(dsn, size=1, name="test")
    before = processor_waits()
    with pool.connection():
        waits["own"] += 0.5
        waits["database"] += 0.25
    assert processor_waits() - before == pytest.approx(0.75)
    waits["database"] += 5.0  # for nobody
    assert processor_waits() - before == pytest.approx(0.75)
    pool.close()


def test_the_kernel_says_what_a_thread_and_a_process_waited(tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text("2500000000 500000000 77\n")
    assert processors.seconds_of(tmp_path) == (2.5, 0.5)
    assert processors.seconds_of(tmp_path / "gone") is None
    if (found := processors.seconds_of(processors.THIS_THREAD)) is not None:
        assert min(found) >= 0


def test_waits_of_those_who_take_little_are_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of who takes most are not: its own requests wait for each other."""
    now = took = waited = 0.0
    monkeypatch.setattr(shares, "processor_seconds", lambda: took)
    monkeypatch.setattr(shares, "processor_waits", lambda: waited)

    def work() -> None:
        nonlocal took, waited
        took += 0.03
        waited += 0.07

    async def run(waiting: str) -> float:
        nonlocal now
        loads = Loads(lambda: now)
        loads.add("heavy", 4.0)
        loads.add("little", 0.1)
        for _ in range(20):
            now += 0.1
            loads.add("heavy", 0.2)

            async def at_once(made: Callable[[], None]) -> None:
                made()

            await loads.counted(lambda: waiting, work, at_once)
            loads.felt(0.0, 0.1)
        return loads.strain.level

    assert asyncio.run(run("little")) == MOST
    assert asyncio.run(run("heavy")) == 0


def test_documents_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "LITTLE", 0.02)

    async def run() -> None:
        loads = felt(lambda: 0.0)
        loads.add("other", 0.01)
        workshop = Workshop(loads=loads)
        await workshop.make("prints", lambda: sum(range(10_000_000)))
        workshop.close()
        assert loads.is_heavy("prints")

    asyncio.run(run())


def test_what_takes_too_long_is_cut_off_and_said_so(
    dsn: str, db: psycopg.Connection[Any], keys: list[str]
) -> None:
    doors = Doors()
    db.execute("select pg_advisory_lock(77)")

    async def talk(get: Get) -> None:
        for path in ("/long", "/locked"):
            answer = await asyncio.wait_for(get(path, keys[0]), 10)
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["code"] == "took_too_long"
        assert (await get("/quick", keys[0])).status_code == 200

    doors.serve(dsn, talk, turns=Turns(), limits=Limits(statement=2, lock=1))


def test_the_shares_of_those_who_wait_no_more_are_given_back() -> None:
    async def run() -> None:
        shares = Shares(1, 1, refusal=too_many_requests, seconds=0.05)
        async with shares.turn("a"):
            refusals = set()
            for _ in range(3):
                with pytest.raises(Refusal) as refused:
                    async with shares.turn("a"):  # waits in vain
                        pass
                assert refused.value.status == 429
                refusals.add(refused.value)
            assert len(refusals) == 3, "one that is raised again keeps the stacks of all times"
            async with shares.turn("b"):
                pass
            waiting = asyncio.create_task(shares.turn("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with shares.turn("a"):
            pass
        assert not shares._shares

    asyncio.run(run())


def test_those_who_wait_have_their_turns_by_kind() -> None:
    """A flood of one kind keeps nobody of another waiting for all of it."""
    entered: list[str] = []

    async def enter(gate: Gate, kind: str, name: str) -> None:
        await gate.enter(kind)
        entered.append(name)

    async def run() -> None:
        gate = Gate(1)
        waiting = {
            name: asyncio.create_task(enter(gate, name[0], name))
            for name in ("e0", "e1", "e2", "e3", "d1", "r1", "r2", "r3")
        }
        await asyncio.sleep(0)
        waiting["e2"].cancel()
        await asyncio.sleep(0)
        for _ in range(5):
            gate.leave()
            await asyncio.sleep(0)
        assert entered == ["e0", "e1", "d1", "r1", "e3", "r2"]
        gate.leave()
        waiting["r3"].cancel()  # it has just been let in
        await asyncio.gather(*waiting.values(), return_exceptions=True)
        assert not gate.is_full
        assert entered[-1] == "r2"

    asyncio.run(run())


def test_a_heavy_owner_does_its_kinds_of_work_in_turn() -> None:
    """Its reads are done beside its own flood of events."""
    done: list[Any] = []

    async def run() -> None:
        loads = felt(lambda: 0.0)
        loads.add("other", 0.01)
        loads.add("heavy", 4.0)
        turns, workshop = Shares(4, 36, refusal=too_many_requests, loads=loads), Workshop(loads=loads)

        async def events(number: int) -> None:
            async with loads.piece("heavy", EVENTS):
                done.append(number)

        async def read(path: str) -> None:
            async with turns.turn("heavy", path):
                done.append(path)

        async with loads.piece("heavy", EVENTS):
            under_way = [asyncio.create_task(events(number), context=Context()) for number in range(8)]
            under_way += [
                asyncio.create_task(read(path), context=Context()) for path in ("/a", "/a", "/a", "/a", "/b")
            ]
            made = workshop.make("heavy", lambda: done.append("document"))
            under_way.append(asyncio.create_task(made, context=Context()))
            await asyncio.sleep(0)
        await asyncio.gather(*under_way)
        workshop.close()

    asyncio.run(run())
    assert done.index("/a") < 3
    assert done.index("document") < 4
    assert done.index("/b") < 8
