"""Reads of usage keep the plans of their statements, whatever they are asked for: those find everything by an index."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import Api, charge

AT = datetime(2024, 3, 5, 11, tzinfo=UTC)
MANY = 3_000
READS = 12
"""More than the five after which a statement is prepared."""


@pytest.fixture
def crowded(api: Api, dsn: str) -> Api:
    """An organization with thousands of customers, subscriptions and series, of which one subscription is read."""
    api.plan(charges=[charge(api.metric(filters=[{"key": "model", "values": ["a", "b"]}]))])
    api.customer()
    api.subscribe()
    conn, memory, at = open_connection(dsn), Memory(), microseconds(AT)
    for first in range(0, MANY, 500):
        drafts = [
            Draft(f"t{n}", "tokens", "sub" if n < 2 else f"other-{n}", at, None, {"model": "ab"[n % 2], "tokens": n + 1})
            for n in range(first, first + 500)
        ]  # fmt: skip
        store(conn, memory, [Request(api.organization.id, drafts, at)])
    while rollup.roll_up(conn):
        pass
    for table, column in (("customer", "external_id"), ("subscription", "external_id"), ("plan", "code")):
        _multiply(conn, api.organization.id, table, column)
    conn.execute("analyze")
    conn.close()
    api.put("/test_clock", {"test_clock": {"now": "2024-03-06T00:00:00Z"}})
    return api


def _multiply(conn: psycopg.Connection[Any], organization: UUID, table: str, column: str) -> None:
    """Thousands of copies of a row, with names and ids of their own."""
    conn.execute(
        f"insert into {table} select (jsonb_populate_record(t, jsonb_build_object("
        f"'id', gen_random_uuid(), '{column}', 'copy-' || n, 'slug', 'copy-' || n, 'sequential_id', n + 1, 'next_billing_at', null))).*"
        f" from {table} t, generate_series(1, {MANY}) n"
        f" where t.id = (select id from {table} where organization_id = %s order by created_at limit 1)",
        [organization],
    )


def sequential_scans(api: Api) -> dict[str, int]:
    api.conn.execute("select pg_stat_force_next_flush()")
    api.conn.rollback()
    rows = api.conn.execute(
        "select relname, seq_scan from pg_stat_user_tables"
        " where relname in ('customer', 'subscription', 'plan', 'series', 'event', 'usage_cell')"
    ).fetchall()
    api.conn.rollback()
    return dict(rows)


def test_a_plan_that_is_kept_reads_no_table_as_a_whole(crowded: Api) -> None:
    before = sequential_scans(crowded)
    for path, query in (
        ("/customers/cus/current_usage", {"external_subscription_id": "sub"}),
        ("/customers/cus/projected_usage", {"external_subscription_id": "sub"}),
        ("/subscriptions/sub/daily_usage", {}),
        ("/subscriptions/sub/lifetime_usage", {}),
    ):
        assert len({str(crowded.get(path, **query)) for _ in range(READS)}) == 1
        time.sleep(1.1)  # a connection reports what it did once a second
        crowded.get("/test_clock")
        assert sequential_scans(crowded) == before, path
    crowded.row("select max(value) from event")
    assert sequential_scans(crowded) != before  # it would have been seen
