"""Usage by day for a chart: read at once where that is quick, else as it was made in the background."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection

from permille.core.record import Record
from permille.events.engine import usage
from permille.events.usage import Shown
from permille.ids import new_id
from permille.out.usage_charts import days_of
from permille.store import usage_charts
from permille.store.usage_charts import Chart, Days

SIZE_AT_ONCE = 20_000
"""The most sums of a series and day that a page adds up; three charts of them take less than 200 ms."""
KEPT = timedelta(minutes=5)


class ChartedUsage(Record, kw_only=True):
    """The days of a chart. `made_at` is None when they are of now, or when they are still being made."""

    days: Days
    made_at: datetime | None = None
    is_being_made: bool = False


def charted_usage(conn: Connection[Any], chart: Chart, *, now: datetime) -> ChartedUsage:
    """The days of usage of a chart. A kept one is made again when it is older than KEPT. `now` is the system's clock."""
    kept = usage_charts.kept(conn, chart)
    if kept is None or kept.asked_at <= now - KEPT or kept.until != chart.until:
        if _is_quick(conn, chart):
            return ChartedUsage(days=days_of(conn, chart))
        usage_charts.ask(conn, chart, chart_id=new_id(now), now=now)
    if kept is None or kept.made_at is None:
        return ChartedUsage(days={}, is_being_made=True)
    return ChartedUsage(days=kept.units, made_at=kept.made_at)


def _is_quick(conn: Connection[Any], chart: Chart) -> bool:
    size = usage.size_of_days(
        conn,
        chart.organization_id,
        code=chart.code,
        shown=Shown(chart.shown),
        since=chart.since,
        until=chart.until,
        most=SIZE_AT_ONCE + 1,
    )
    return size <= SIZE_AT_ONCE
