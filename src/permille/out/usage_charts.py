"""Makes the charts of usage by day that take too long for a page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.clock import system_now
from permille.events.engine import usage
from permille.events.usage import Shown
from permille.out.kind import Context, Kind
from permille.store import usage_charts
from permille.store.usage_charts import Chart, Days


def days_of(conn: Connection[Any], chart: Chart) -> Days:
    """The days of a chart, of all that is in use."""
    return usage.units_by_day(
        conn,
        chart.organization_id,
        code=chart.code,
        key=chart.key,
        shown=Shown(chart.shown),
        since=chart.since,
        until=chart.until,
    )


def make(context: Context, chart_id: str) -> None:
    """Make a chart as it was asked for last."""
    with context.pool.connection() as conn:
        asked = usage_charts.by_id(conn, UUID(chart_id))
        if asked is None:
            return
        now = system_now()
        usage_charts.keep(conn, UUID(chart_id), days_of(conn, asked.chart), now=now)


JOB = Kind(name=usage_charts.JOB, run=make)
