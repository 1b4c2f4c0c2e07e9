"""The usage charts of the admin's home page, for an organization with very many series in use.

    .venv/bin/python -m benchmarks.home [--series 1000000]

Series and their cells of days go straight into the database: this benchmark is about reading.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import psycopg

from benchmarks.stack import Stack, month, running_stack, save
from permille.events.usage import Shown
from permille.out.usage_charts import days_of
from permille.store.usage_charts import Chart
from permille.usecases.usage.charts import charted_usage

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


def feed(stack: Stack, organization: uuid.UUID, series: int) -> dict[str, Any]:
    """The window that the chart shows."""
    today = month() + timedelta(days=27)
    window = {"since": today - timedelta(days=29), "until": today + timedelta(days=1)}
    values = {"organization": organization, "series": series, "used": DAYS_USED, "days": 30, **window}
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        for statement in (_SERIES, _CELLS, _MONTHS):
            conn.execute(statement, values)
        conn.execute("vacuum analyze series, usage_cell, series_month")
    return window


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=1_000_000)
    series = parser.parse_args().series
    with running_stack() as stack:
        organization = uuid.UUID(stack.organization()["lago_id"])
        chart = Chart(
            organization_id=organization,
            code="tokens",
            key="model",
            shown=Shown.UNITS,
            **feed(stack, organization, series),
        )
        with psycopg.connect(stack.dsn) as conn:
            whole = [timed(lambda: days_of(conn, chart)) for _ in range(READS)]
            first = timed(lambda: charted_usage(conn, chart, now=datetime.now(UTC)))
            conn.commit()
            while (found := charted_usage(conn, chart, now=datetime.now(UTC))).is_being_made:
                conn.commit()
                time.sleep(1)
            looks = [timed(lambda: charted_usage(conn, chart, now=datetime.now(UTC))) for _ in range(READS)]
            assert found.days == days_of(conn, chart)
        print(
            f"{series:,} series: {median(whole):,.0f} ms, least {min(whole):,.0f}; as a page asks: {first:,.0f} ms,"
        )
        print(f"then {median(looks):,.1f} ms")
        save("home", {"series": series, "whole": whole, "first": first, "looks": looks})


if __name__ == "__main__":
    main()
