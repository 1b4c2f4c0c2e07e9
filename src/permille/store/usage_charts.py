"""Usage by day of a metric, of which more is in use than a page can add up: made in the background, kept for a while."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.database.connections import exact_json
from permille.store.jobs import Job, defer

JOB = "usage chart"

Days = Mapping[date, Mapping[str, Decimal]]
"""UTC day -> value of the dimension -> what is shown."""

_SELECT = "select organization_id, code, key, shown, since, until, asked_at, days, made_at from usage_chart"
_ASK = """
insert into usage_chart (id, organization_id, code, key, shown, since, until, asked_at)
values (%(id)s, %(organization_id)s, %(code)s, %(key)s, %(shown)s, %(since)s, %(until)s, %(now)s)
on conflict (organization_id, code, key, shown)
do update set since = excluded.since, until = excluded.until, asked_at = excluded.asked_at
returning id
"""


class Chart(Record, kw_only=True):
    """What a chart shows; `key` is the dimension that it is stacked by, `shown` a `Shown` of the events engine."""

    organization_id: UUID
    code: str
    key: str | None
    shown: str
    since: datetime
    until: datetime


class KeptChart(Record, kw_only=True):
    """A chart as it was asked for last, and its days once they were made. Times are of the system's clock."""

    organization_id: UUID
    code: str
    key: str
    shown: str
    since: datetime
    until: datetime
    asked_at: datetime
    days: Mapping[str, Mapping[str, str]] | None
    made_at: datetime | None

    @property
    def chart(self) -> Chart:
        """What it shows."""
        return Chart(
            organization_id=self.organization_id,
            code=self.code,
            key=self.key or None,
            shown=self.shown,
            since=self.since,
            until=self.until,
        )

    @property
    def units(self) -> Days:
        """Its days; none while it was never made."""
        return {
            date.fromisoformat(day): {kind: Decimal(text) for kind, text in kinds.items()}
            for day, kinds in (self.days or {}).items()
        }


def kept(conn: Connection[Any], chart: Chart) -> KeptChart | None:
    """The chart as it was asked for last, whatever its window was."""
    with conn.cursor(row_factory=class_row(KeptChart)) as cursor:
        return cursor.execute(
            f"{_SELECT} where organization_id = %s and code = %s and key = %s and shown = %s",
            [chart.organization_id, chart.code, chart.key or "", chart.shown],
        ).fetchone()


def by_id(conn: Connection[Any], chart_id: UUID) -> KeptChart | None:
    with conn.cursor(row_factory=class_row(KeptChart)) as cursor:
        return cursor.execute(f"{_SELECT} where id = %s", [chart_id]).fetchone()


def ask(conn: Connection[Any], chart: Chart, *, chart_id: UUID, now: datetime) -> None:
    """Have the chart made in the background; `chart_id` is for one that was never asked for."""
    values = {
        "id": chart_id,
        "organization_id": chart.organization_id,
        "code": chart.code,
        "key": chart.key or "",
        "shown": chart.shown,
        "since": chart.since,
        "until": chart.until,
        "now": now,
    }
    row = conn.execute(_ASK, values).fetchone()
    assert row is not None
    defer(conn, [Job(kind=JOB, key=str(row[0]), owner=str(chart.organization_id), is_slow=True)])


def keep(conn: Connection[Any], chart_id: UUID, days: Days, *, now: datetime) -> None:
    """The days of a chart that was asked for."""
    texts = {
        day.isoformat(): {kind: f"{units:f}" for kind, units in kinds.items()} for day, kinds in days.items()
    }
    conn.execute(
        "update usage_chart set days = %s, made_at = %s where id = %s", [exact_json(texts), now, chart_id]
    )
