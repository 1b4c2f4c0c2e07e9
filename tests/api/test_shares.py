"""Requests at once: each organization has its own, and what takes too long is cut off and said so."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
import pytest

from permille.api.http import Call, Engine, application, route
from permille.config import from_environment
from permille.core.errors import Refusal
from permille.database.connections import Limits, open_pool
from permille.http.shares import LATELY_SECONDS, Loads, Shares, Turns, Workshop, too_many_requests
from permille.niceness import NICE
from permille.store import api_keys, organizations
from permille.usecases.key_use import KeyUse

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


class Doors:
    """Endpoints that take their time."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun = threading.Semaphore(0)

    def slow(self, _call: Call) -> dict[str, Any]:
        """It has a connection, and waits until it is let go."""
        self.begun.release()
        assert self.go_on.wait(20)
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
    doors = Doors()

    async def talk(get: Get) -> None:
        for key in keys:
            assert (await get("/quick", key)).status_code == 200  # whose keys they are is known from now on
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

    doors.serve(dsn, talk, turns=Turns(2, 3), limits=Limits())


def test_an_organization_that_takes_most_gives_way(dsn: str, keys: list[str]) -> None:
    """One of its requests at a time, on a connection whose process lets others go first; and as before once others are gone."""
    now = 0.0
    doors, loads = Doors(), Loads(lambda: now)
    turns = Turns(4, 3, loads=loads)

    async def talk(get: Get) -> None:
        nonlocal now
        usual = {"nice": os.getpriority(os.PRIO_PROCESS, 0)}
        for key in keys:
            assert (await get("/connection", key)).json() == usual
        loads.add(turns.owner(keys[0]), 3.0)
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
    loads = Loads(lambda: now)
    loads.add("most", 1.0)
    assert not loads.is_heavy("most"), "alone"
    loads.add("little", 0.1)
    loads.add("less", 0.05)
    assert [loads.is_heavy(each) for each in ("most", "little", "less", "new")] == [True, False, False, False]
    loads.add("less", 3.0)
    assert [loads.is_heavy(each) for each in ("most", "little", "less")] == [False, False, True]
    now += 4 * LATELY_SECONDS
    loads.add("less", 0.1)
    assert not loads.is_heavy("less"), "the others are gone"
    loads.in_company = lambda owner: owner == "less"
    assert not loads.is_heavy("less"), "so little hurts nobody"
    loads.add("less", 1.0)
    assert loads.is_heavy("less"), "another one sends events"


def test_time_on_a_processor_counts_and_waiting_does_not() -> None:
    def burn(_is_heavy: bool) -> None:
        until = time.thread_time() + 0.25
        while time.thread_time() < until:
            pass

    async def run() -> None:
        loads = Loads(lambda: 0.0)
        turns = Turns(loads=loads)
        await turns.run("waits", lambda _: time.sleep(0.5))
        await turns.run("reckons", burn)
        assert loads.is_heavy("reckons")
        assert not loads.is_heavy("waits")

    asyncio.run(run())


def test_documents_count_too() -> None:
    async def run() -> None:
        loads = Loads(lambda: 0.0)
        loads.add("other", 0.01)
        workshop = Workshop(loads=loads)
        await workshop.make("prints", lambda: sum(range(20_000_000)))
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
