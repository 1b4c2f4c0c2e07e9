"""Jobs: one for the webhooks of an endpoint, in the transaction of the change; nobody waits for somebody else's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.config import Config
from permille.database.connections import open_pool
from permille.ids import new_id
from permille.out import jobs
from permille.out.kind import Context, Kind
from permille.store import jobs as store_jobs, organizations, webhooks
from permille.store.jobs import Job, defer
from permille.usecases.webhook_endpoints import ENDPOINTS_MAX
from tests.live import PATIENCE_SECONDS
from tests.out.test_calls import Server, drip


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool[Any]]:
    opened = open_pool(dsn, size=8, name="test")
    yield opened
    opened.close()


def until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def worker(
    dsn: str, pool: ConnectionPool[Any], kinds: tuple[Kind, ...] = jobs.KINDS, *, timeout: int = 30
) -> Iterator[None]:
    stopping = threading.Event()
    context = Context(
        pool=pool,
        config=Config(webhook_timeout_seconds=timeout),
        renderers={"invoice": lambda _conn, ids: {each: {"lago_id": str(each)} for each in ids}},
        is_stopping=stopping.is_set,
    )
    thread = threading.Thread(
        target=jobs.work, args=(dsn, context, stopping), kwargs={"kinds": kinds, "dead_after": 3.0}
    )
    thread.start()
    yield
    stopping.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def listen(db: psycopg.Connection[Any], *urls: str) -> Any:
    """A new organization with endpoints."""
    now = system_now()
    organization = organizations.add(db, name="O", test_now=now, entity={}, now=now).id
    for url in urls:
        db.execute(
            "insert into webhook_endpoint (id, organization_id, webhook_url, signature_algo, created_at, updated_at)"
            " values (%s, %s, %s, 'hmac', %s, %s)",
            [new_id(now), organization, url, now, now],
        )
    db.commit()
    return organization


def happen(conn: psycopg.Connection[Any], organization: Any, count: int = 1) -> None:
    now = system_now()
    webhooks.enqueue(
        conn,
        organization_id=organization,
        webhook_type="invoice.created",
        object_type="invoice",
        object_ids=[new_id(now) for _ in range(count)],
        payload=None,
        now=now,
    )


def job(kind: str, key: str) -> Job:
    return Job(kind=kind, key=key, owner=key)


def count(db: psycopg.Connection[Any], table: str, condition: str = "true") -> int:
    db.rollback()
    row = db.execute(f"select count(*) from {table} where {condition}").fetchone()
    db.rollback()
    assert row is not None
    return int(row[0])


def ok(connection: Any) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_a_job_comes_and_goes_with_the_change(db: psycopg.Connection[Any]) -> None:
    organization = listen(db, "http://127.0.0.1:9/")
    happen(db, organization, 1_000)
    db.rollback()
    assert count(db, "procrastinate_jobs") == 0
    for _ in range(3):
        happen(db, organization, 1_000)
        db.commit()
    assert (count(db, "webhook"), count(db, "procrastinate_jobs")) == (3_000, 1)


def test_changes_at_once_do_not_wait_for_each_other(db: psycopg.Connection[Any], dsn: str) -> None:
    """Two transactions that queue the same job, in turns: the library's unique index would block the second."""
    organization = listen(db, "http://127.0.0.1:9/")
    with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
        second.execute("set lock_timeout to '500ms'")
        happen(first, organization)
        happen(second, organization)
        second.commit()
        assert count(db, "procrastinate_jobs") == 0
        first.rollback()
    assert (count(db, "webhook"), count(db, "procrastinate_jobs")) == (1, 0)
    webhooks.defer_due(db, now=system_now())  # the worker does so every second
    db.commit()
    assert count(db, "procrastinate_jobs", "task_name = 'webhooks'") == 1


def test_the_same_job_waits_once(db: psycopg.Connection[Any], dsn: str) -> None:
    defer(db, [job("k", "1")])
    db.commit()
    with psycopg.connect(dsn) as other:
        for _ in range(2):
            defer(other, [job("k", "1"), job("k", "2"), job("k", "2")])
    assert count(db, "procrastinate_jobs") == 2


def test_a_job_may_run_beside_the_one_of_its_key_and_beside_no_other_such(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any]
) -> None:
    under_way: list[str] = []
    go_on = threading.Event()

    def work(_context: Context, key: str) -> None:
        under_way.append(key)
        go_on.wait(PATIENCE_SECONDS)
        under_way.remove(key)

    beside = [Job(kind="k", key=key, owner="1", is_beside=True) for key in ("1", "1", "2")]
    defer(db, [job("k", "1"), *beside])
    db.commit()
    assert count(db, "procrastinate_jobs") == 3
    with worker(dsn, pool, (Kind(name="k", run=work),)):
        until(lambda: len(under_way) >= 2)
        time.sleep(1.0)  # time for the third, which must wait
        assert under_way == ["1", "1"]
        go_on.set()
        until(lambda: count(db, "procrastinate_jobs") == 0)


def test_jobs_run_soon_after_the_commit_and_leave_nothing(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any]
) -> None:
    server = Server(ok)
    organization = listen(db, server.url)
    with worker(dsn, pool), worker(dsn, pool):
        happen(db, organization, 30)
        db.commit()
        until(lambda: count(db, "webhook", "status = 'succeeded'") == 30)
        happen(db, organization)
        db.commit()
        until(lambda: count(db, "webhook", "status = 'succeeded'") == 31)
        until(lambda: count(db, "procrastinate_jobs") == 0)
    assert len(server.heads) == 31
    assert [count(db, f"procrastinate_{each}") for each in ("jobs", "events", "workers")] == [0, 0, 0]


def test_slow_endpoints_delay_only_themselves(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """House fault B2: two dripping endpoints of one organization, and a hundred webhooks of another."""
    dripping = Server(lambda each: drip(each, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"))
    fast = Server(ok)
    slow = [listen(db, dripping.url) for _ in range(2)]
    other = listen(db, fast.url)
    for each in slow:
        happen(db, each, 120)
    db.commit()
    with worker(dsn, pool, timeout=60):
        until(lambda: dripping.connections >= 2)
        happen(db, other, 100)
        db.commit()
        until(lambda: count(db, "webhook", "status = 'succeeded'") == 100)
        assert count(db, "webhook", "status <> 'pending' and attempts > 0") == 100
    assert len(fast.heads) == 100


def test_dripping_endpoints_of_an_organization_leave_slots_for_the_others(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any]
) -> None:
    """F5: two organizations with as many dripping endpoints as there can be, more than a worker has slots."""
    assert 2 * ENDPOINTS_MAX > jobs.SLOTS["default"] > 2 * store_jobs.AT_ONCE
    dripping = Server(lambda each: drip(each, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"))
    fast = Server(ok)
    slow = [listen(db, *(f"{dripping.url}/{n}" for n in range(ENDPOINTS_MAX))) for _ in range(2)]
    other = listen(db, fast.url)
    for each in slow:
        happen(db, each)
    db.commit()
    with worker(dsn, pool, timeout=6):
        until(lambda: dripping.connections >= 2 * store_jobs.AT_ONCE - 2)
        begun = time.monotonic()
        happen(db, other)
        db.commit()
        until(lambda: count(db, "webhook", "status = 'succeeded'") == 1, seconds=5)
        assert time.monotonic() - begun < 5  # before an attempt at a dripping one ends
        # each attempt ends at its deadline, though a byte comes every 0.1 seconds
        until(lambda: count(db, "webhook", "response like 'No answer within 6 seconds%'") >= 4)


def test_endpoints_that_are_known_as_slow_take_none_of_the_other_slots(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SLOTS", {"default": 1, "slow": 1})
    dripping = Server(lambda each: drip(each, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"))
    fast = Server(ok)
    slow = [listen(db, dripping.url) for _ in range(3)]
    other = listen(db, fast.url)
    db.execute("update webhook_endpoint set is_slow = webhook_url = %s", [dripping.url])
    for each in slow:
        happen(db, each, 20)
    db.commit()
    with worker(dsn, pool, timeout=60):
        until(lambda: dripping.connections)
        happen(db, other)
        db.commit()
        until(lambda: count(db, "webhook", "status = 'succeeded'") == 1)
        assert count(db, "webhook", "attempts > 0") == 1


@pytest.mark.parametrize("waits_too", [False, True])
def test_jobs_of_a_dead_worker_are_run_by_another(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any], waits_too: bool
) -> None:
    ran: list[str] = []
    probe = Kind(name="probe", run=lambda _context, key: ran.append(key))
    defer(db, [job("probe", "a")])
    db.execute(
        "with dead as (insert into procrastinate_workers (last_heartbeat) values ('2020-01-01Z') returning id)"
        " update procrastinate_jobs set status = 'doing', worker_id = dead.id from dead"
    )
    if waits_too:
        defer(db, [job("probe", "a")])
    db.commit()
    with worker(dsn, pool, (probe,)):
        until(lambda: count(db, "procrastinate_jobs") == 0)
    assert ran == ["a"]


def test_a_job_that_fails_stops_no_other(
    db: psycopg.Connection[Any], dsn: str, pool: ConnectionPool[Any]
) -> None:
    ran: list[str] = []

    def run(_context: Context, key: str) -> None:
        ran.append(key)
        if key == "bad":
            raise ZeroDivisionError

    defer(db, [job("probe", "bad"), job("probe", "good")])
    defer(db, [job("gone", "of a kind that is no more")])
    db.commit()
    with worker(dsn, pool, (Kind(name="probe", run=run),)):
        until(lambda: count(db, "procrastinate_jobs") == 0)
    assert sorted(ran) == ["bad", "good"]


def test_kinds_have_names_of_their_own() -> None:
    names = [kind.name for kind in jobs.KINDS]
    assert len(set(names)) == len(names)
