"""Connections that are lost, and pools that are full."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from permille.database import connections as under_test
from permille.database.connections import Pool, is_alive, is_passing, is_unavailable, open_pool
from tests.live import PATIENCE_SECONDS, wait_until


def terminate(db: psycopg.Connection[Any], name: str) -> None:
    query = "select pg_terminate_backend(pid, %s) from pg_stat_activity where application_name = %s"
    db.execute(query, [PATIENCE_SECONDS * 1_000, name])
    db.commit()


def test_a_pool_gives_none_of_the_connections_that_were_lost_while_idle(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    pool = open_pool(dsn, size=6, name="test-lost")
    try:
        with ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(pool.connection()).execute("select 1")
        terminate(db, "test-lost")
        began = time.monotonic()
        for _ in range(8):
            with pool.connection() as conn:
                assert conn.execute("select 1").fetchone() == (1,)
        assert time.monotonic() - began < 1
    finally:
        pool.close()


def all_are_back(pool: Pool) -> bool:
    stats = pool.get_stats()
    return stats["pool_available"] == stats["pool_size"]


def test_a_pool_gives_the_connection_that_was_used_last(dsn: str) -> None:
    """One that was used knows tables and has its plans: in turns, each of a bill's statements would be planned on all of them."""
    pool = open_pool(dsn, size=3, name="test-last")
    try:
        with ExitStack() as stack:
            first, second, third = (stack.enter_context(pool.connection()) for _ in range(3))
            at_once = {each.info.backend_pid for each in (first, second, third)}
        given = []
        for _ in range(3):
            wait_until(lambda: all_are_back(pool))  # a thread gives them back
            with pool.connection() as conn:
                given.append(conn.info.backend_pid)
        assert len(at_once) == 3
        assert len(set(given)) == 1
    finally:
        pool.close()


def test_a_full_pool_is_unavailable(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "WAIT_SECONDS", 0.2)
    pool = open_pool(dsn, size=1, name="test-full")
    try:
        with pool.connection(), pytest.raises(PoolTimeout) as full, pool.connection():
            pass
        assert is_unavailable(full.value)
    finally:
        pool.close()


def test_an_idle_connection_is_alive_until_the_server_ends_it(dsn: str, db: psycopg.Connection[Any]) -> None:
    with psycopg.connect(dsn, application_name="test-idle") as conn:
        assert is_alive(conn)
        conn.execute("select 1")
        conn.commit()
        assert is_alive(conn)
        terminate(db, "test-idle")
        assert not is_alive(conn)
        conn.close()
        assert not is_alive(conn)


@pytest.mark.parametrize(
    ("error", "unavailable", "passing"),
    [
        (psycopg.OperationalError("connection refused"), True, True),
        (psycopg.InterfaceError("the connection is closed"), True, True),
        (psycopg.errors.AdminShutdown(), True, True),
        (psycopg.errors.CannotConnectNow(), True, True),
        (psycopg.errors.TooManyConnections(), True, True),
        (psycopg.errors.DiskFull(), True, True),
        (PoolTimeout(), True, True),
        (psycopg.errors.SerializationFailure(), False, True),
        (psycopg.errors.DeadlockDetected(), False, True),
        (psycopg.errors.LockNotAvailable(), False, True),
        (psycopg.errors.QueryCanceled(), False, False),
        (psycopg.errors.OutOfMemory(), False, False),
        (psycopg.errors.ProgramLimitExceeded(), False, False),
        (psycopg.errors.NumericValueOutOfRange(), False, False),
        (ValueError(), False, False),
        (OSError(), False, False),
    ],
)
def test_whose_fault_an_error_is(error: Exception, unavailable: bool, passing: bool) -> None:
    assert (is_unavailable(error), is_passing(error)) == (unavailable, passing)
