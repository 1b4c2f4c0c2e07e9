"""The usage of an organization at a glance: by day, and how fast events come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.events.usage import OTHERS, RATE_SECONDS, Shown

EVENTS_LOOKED_AT = 20_000
KINDS_MAX = 50
"""The most values of a dimension that are named; charts show fewer."""

# The series that were used in the month of the days: what was used before and is over costs nothing.
_USED = """
from series_month m join series s on s.id = m.series_id
cross join lateral (
    select {columns} from {cells}
    where series_id = s.id and grain = 'd' and starts_at >= %(since)s and starts_at < %(until)s offset 0
) c
where m.organization_id = %(organization)s and m.code = %(code)s and m.starts_at = %(month)s
    and s.organization_id = %(organization)s and s.code = %(code)s
"""
_CELLS, _UNIQUES = "usage_cell", "unique_cell"
_KIND = "coalesce(s.dimensions ->> %(key)s, 'other') as kind"

# From the cells of whole UTC days, so that the cost does not grow with the number of events.
_DAYS = f"""
select c.starts_at, {_KIND}, {{units}} as units
{_USED.format(columns="starts_at, events_count, sum, max", cells=_CELLS)}
group by 1, 2
having {{units}} is not null
"""

# The values of each subscription that a day ended with, of those that the day's events name.
_DISTINCT = f"""
select starts_at, kind, count(*) filter (where is_add)::numeric from (
    select distinct on (c.starts_at, kind, s.external_subscription_id, c.digest)
        c.starts_at, {_KIND}, c.is_add
    {_USED.format(columns="starts_at, digest, at, seq, is_add", cells=_UNIQUES)}
    order by c.starts_at, kind, s.external_subscription_id, c.digest, c.at desc, c.seq desc
) newest
group by 1, 2
"""


# The largest kinds by themselves, all others as one: a property may have a million values.
_LARGEST = f"""
with units_of_days (starts_at, kind, units) as materialized ({{statement}}),
largest as (
    select kind from units_of_days where kind <> '{OTHERS}'
    group by kind order by sum(units) desc, kind limit {KINDS_MAX}
)
select starts_at, coalesce(l.kind, '{OTHERS}'), sum(units)
from units_of_days u left join largest l on l.kind = u.kind group by 1, 2
"""

_STATEMENTS = {
    shown: _LARGEST.format(statement=statement)
    for shown, statement in (
        (Shown.UNITS, _DAYS.format(units="sum(c.sum)")),
        (Shown.GREATEST, _DAYS.format(units="max(c.max)")),
        (Shown.DISTINCT, _DISTINCT),
        (Shown.EVENTS, _DAYS.format(units="sum(c.events_count)::numeric")),
    )
}

# Each of the series has cells in the whole month, so the count ends early.
_SIZE = "select count(*) from (select {used} limit %(most)s) as looked_at"
_SIZES = {
    shown: _SIZE.format(used=_USED.format(columns="1", cells=_UNIQUES if shown is Shown.DISTINCT else _CELLS))
    for shown in Shown
}

# The newest events by arrival, bounded however many there are, and how far back they reach where all of them came in since: the
# places that failed groups left empty in the order of arrival are no events. "+ interval '0'" has them found by arrival, not among
# all that came in since; "offset 0" looks up their series alone, not all that there are.
_RATE = """
with last as (select last_value as seq from event_seq_seq),
looked_at as (
    select e.series_id, count(*) as events, min(e.created_at) as first_at, min(e.seq) as first_seq
    from sent_event e where e.seq > (select seq from last) - %(most)s and e.created_at + interval '0' > %(since)s
    group by e.series_id
)
select coalesce(sum(l.events) filter (where s.organization_id = %(organization)s), 0),
    min(l.first_at) filter (where l.first_seq < (select seq from last) - %(nearly_most)s)
from looked_at l cross join lateral (select organization_id from series where id = l.series_id offset 0) s
"""


def units_by_day(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    code: str,
    key: str | None,
    shown: Shown,
    since: datetime,
    until: datetime,
) -> dict[date, dict[str, Decimal]]:
    """UTC day -> value of the dimension -> what is shown, as far as it is rolled up; the smallest together as OTHERS."""
    values = {"organization": organization_id, "code": code, "key": key or ""}
    found: dict[date, dict[str, Decimal]] = {}
    for month, start, end in _by_month(since, until):
        days = {**values, "month": month, "since": start, "until": end}
        for starts_at, kind, units in conn.execute(_STATEMENTS[shown], days):
            found.setdefault(starts_at.date(), {})[kind] = units
    return found


def size_of_days(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    code: str,
    shown: Shown,
    since: datetime,
    until: datetime,
    most: int,
) -> int:
    """How many rows `units_by_day` adds up, of the whole months and at most so many."""
    count = 0
    for month, _, _ in _by_month(since, until):
        values = {"organization": organization_id, "code": code, "month": month, "since": month}
        values |= {"until": _after(month), "most": most - count}
        row = conn.execute(_SIZES[shown], values).fetchone()
        count += row[0] if row else 0
    return count


def _by_month(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime, datetime]]:
    """UTC month, and what of the window lies in it."""
    while since < until:
        month = since.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = _after(month)
        yield month, since, min(following, until)
        since = following


def _after(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def events_per_second(conn: Connection[Any], organization_id: UUID, *, since: datetime) -> Decimal:
    """Over the last RATE_SECONDS, of which `since` is the beginning; or since the oldest of the EVENTS_LOOKED_AT newest."""
    now = since + timedelta(seconds=RATE_SECONDS)
    values = {"organization": organization_id, "since": since, "most": EVENTS_LOOKED_AT}
    conn.execute("set local enable_seqscan = off")
    row = conn.execute(_RATE, {**values, "nearly_most": EVENTS_LOOKED_AT * 9 // 10}).fetchone()
    conn.execute("set local enable_seqscan = on")
    assert row is not None, "sums have a row"
    count, oldest = row
    seconds = RATE_SECONDS if oldest is None else min(RATE_SECONDS, max(1, (now - oldest).total_seconds()))
    return Decimal(count) / Decimal(seconds)
