"""What the background does about events that came too late."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from permille.clock import system_now
from permille.database.connections import open_pool
from permille.events.postgres import rollup
from permille.usecases.invoices import late_usage


def review_late_usage(dsn: str, *, seconds: float = 20) -> None:
    """Roll up, find late events, price their periods; at most so long where a transaction stays open."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        while rollup.roll_up(conn):
            pass
        pool = open_pool(dsn, size=2, name="late")
        until = time.monotonic() + seconds
        while time.monotonic() < until and not is_all_checked(conn):
            late_usage.review_live(pool, system_now())
        while late_usage.review_live(pool, system_now()):
            pass
        pool.close()


def is_all_checked(conn: psycopg.Connection[Any]) -> bool:
    row = conn.execute("select checked_to = rolled_up_to from late_check, metering_state").fetchone()
    return bool(row and row[0])
