"""The usage charts of the admin's home page, for an organization with very many series in use.

    .venv/bin/python -m benchmarks.home [--series 1000000]

Series and their cells of days go straight into the database: this benchmark is about reading.
"""

from __future__ import annotations

import argparse
import time
import uuid
from datetime import timedelta
from statistics import median
from typing import Any

import psycopg

from benchmarks.stack import Stack, month, running_stack, save
from permille.events.postgres.overview import units_by_day
from permille.events.usage import Shown

READS = 5
DAYS_USED = 3

_SERIES = """
insert into series (organization_id, external_subscription_id, code, metering_version, dimensions, identity)
select %(organization)s, 's' || n %% 1000, 'tokens', 1,
    jsonb_build_object('model', (array['8K', '32K', '128K', 'mini'])[1 + n %% 4], 'user', n), gen_random_uuid()
from generate_series(1, %(series)s) n
"""
_CELLS = """
insert into usage_cell
select id, 'd', %(since)s::timestamptz + (id * 7 + n * 5) %% %(days)s * interval '1 day', 1, 1, id %% 100, id %% 100, 0, 0
from series, generate_series(1, %(used)s) n where organization_id = %(organization)s
on conflict do nothing
"""
_MONTHS = """
insert into series_month (organization_id, code, starts_at, series_id)
select %(organization)s, 'tokens', date_trunc('month', starts_at, 'UTC'), series_id
from usage_cell join series on id = series_id where organization_id = %(organization)s
on conflict do nothing
"""


def feed(stack: Stack, organization: str, series: int) -> dict[str, Any]:
    """The window that the chart shows."""
    today = month() + timedelta(days=27)
    window = {"since": today - timedelta(days=29), "until": today + timedelta(days=1)}
    values = {"organization": organization, "series": series, "used": DAYS_USED, "days": 30, **window}
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        for statement in (_SERIES, _CELLS, _MONTHS):
            conn.execute(statement, values)
        conn.execute("vacuum analyze series, usage_cell, series_month")
    return window


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=1_000_000)
    series = parser.parse_args().series
    with running_stack() as stack:
        organization = stack.organization()["lago_id"]
        window = feed(stack, organization, series)
        milliseconds = []
        with psycopg.connect(stack.dsn) as conn:
            for _ in range(READS):
                started = time.perf_counter()
                found = units_by_day(
                    conn, uuid.UUID(organization), code="tokens", key="model", shown=Shown.UNITS, **window
                )
                milliseconds.append((time.perf_counter() - started) * 1_000)
                conn.rollback()
        assert len(found) == 30, found
        print(f"{series:,} series: {median(milliseconds):,.0f} ms, least {min(milliseconds):,.0f}")
        save("home", {"series": series, "milliseconds": milliseconds})


if __name__ == "__main__":
    main()
