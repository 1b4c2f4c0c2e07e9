"""Events of earlier months, loaded past HTTP, so that a run begins in a full database."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString

import psycopg

from permille.events.postgres import rollup
from permille.events.postgres.metering import INGESTION_LOCK

_SERIES = """
insert into series (organization_id, external_subscription_id, code, metering_version, value_key, dimensions, identity)
select %(organization)s, 'old-' || n, 'old', 0, 'tokens', '{}', gen_random_uuid() from generate_series(1, %(series)s) n
"""
_FIRST_SERIES = "select min(id) from series where code = 'old'"

# They come in the order of their time; a series is used by neighbours alone, as a user who comes for an hour or two.
_EVENTS = """
insert into event (series_id, at, created_at, identity, value, transaction_id)
select %(first_series)s + n / %(block)s * %(block_series)s + (random() * %(block_series)s)::int %% %(block_series)s,
    d.at, d.at, gen_random_uuid(), (random() * 4000)::int, gen_random_uuid()
from generate_series(%(from)s, %(to)s) n,
    lateral (select now() - interval '90 days' + n * (interval '85 days' / %(events)s) as at) d
"""
_BLOCKS = 1_000
"""Each, of two hours, has its own share of the series."""
_AT_ONCE = 1_000_000
_BTREES = (
    "select indexname, indexdef from pg_indexes where tablename = 'event' and indexdef ilike '%using btree%'"
)


def load(dsn: str, organization: str, events: int, *, series: int) -> float:
    """Store so many events of `series` series, folded into cells; the seconds it took.

    The B-trees of events are made afterwards, while the product's own roll-up folds.
    """
    started = time.perf_counter()
    with psycopg.connect(dsn, autocommit=True) as conn, ThreadPoolExecutor(2) as pool:
        conn.execute(_SERIES, {"organization": organization, "series": series})
        row = conn.execute(_FIRST_SERIES).fetchone()
        assert row is not None
        shape = {
            "first_series": row[0],
            "block": -(-events // _BLOCKS),
            "block_series": max(1, series // _BLOCKS),
            "events": events,
        }
        ranges = [
            {**shape, "from": first, "to": min(first + _AT_ONCE, events) - 1}
            for first in range(0, events, _AT_ONCE)
        ]
        btrees = conn.execute(_BTREES).fetchall()
        for name, _ in btrees:
            conn.execute(f"drop index {name}")
        list(pool.map(lambda each: _store(dsn, each), ranges))
        rollup.summarize(conn)
        made = [pool.submit(_make_index, dsn, definition) for _, definition in btrees]
        while rollup.roll_up(conn, limit=_AT_ONCE):
            pass
        for each in made:
            each.result()
        conn.execute("vacuum analyze event, usage_cell, series, series_month")
    return time.perf_counter() - started


def _store(dsn: str, parameters: dict[str, Any]) -> None:
    """As a writer does: what is rolled up waits for those who hold the lock."""
    with psycopg.connect(dsn) as conn:
        conn.execute("select pg_advisory_xact_lock_shared(%s)", [INGESTION_LOCK])
        conn.execute(_EVENTS, parameters)


def _make_index(dsn: str, definition: LiteralString) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("set maintenance_work_mem = '1GB'")
        conn.execute(definition)
