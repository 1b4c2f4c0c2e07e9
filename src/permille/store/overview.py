"""An organization at a glance, for the home page: usage by day, what was invoiced, what waits, how fast events come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.aggregations import MAX, SUM, UNIQUE_COUNT, Aggregation

CUSTOMERS_SHOWN = 8
RATE_SECONDS = 60
EVENTS_LOOKED_AT = 500_000

# Of the series that were used in the month of the days: what was used before and is over costs nothing.
_USED = """
from series_month m join series s on s.id = m.series_id
cross join lateral (
    select {columns} from {cells}
    where series_id = s.id and grain = 'd' and starts_at >= %(since)s and starts_at < %(until)s offset 0
) c
where m.organization_id = %(organization)s and m.code = %(code)s and m.starts_at = %(month)s
    and s.organization_id = %(organization)s and s.code = %(code)s
"""
_KIND = "coalesce(s.dimensions ->> %(key)s, 'other') as kind"

# From the cells of whole UTC days, so that the cost does not grow with the number of events.
_DAYS = f"""
select c.starts_at, {_KIND}, {{units}} as units
{_USED.format(columns="starts_at, events_count, sum, max", cells="usage_cell")}
group by 1, 2
having {{units}} is not null
"""

# Of each subscription the values that a day ended with, of those that the day told of.
_DISTINCT = f"""
select starts_at, kind, count(*) filter (where is_add)::numeric from (
    select distinct on (c.starts_at, kind, s.external_subscription_id, c.digest)
        c.starts_at, {_KIND}, c.is_add
    {_USED.format(columns="starts_at, digest, at, seq, is_add", cells="unique_cell")}
    order by c.starts_at, kind, s.external_subscription_id, c.digest, c.at desc, c.seq desc
) newest
group by 1, 2
"""


class Shown(StrEnum):
    """What a day's bar stands for."""

    UNITS = "units"
    GREATEST = "greatest value"
    DISTINCT = "distinct values"
    EVENTS = "events"


_STATEMENTS = {
    Shown.UNITS: _DAYS.format(units="sum(c.sum)"),
    Shown.GREATEST: _DAYS.format(units="max(c.max)"),
    Shown.DISTINCT: _DISTINCT,
    Shown.EVENTS: _DAYS.format(units="sum(c.events_count)::numeric"),
}


_SHOWN = {SUM: Shown.UNITS, MAX: Shown.GREATEST, UNIQUE_COUNT: Shown.DISTINCT}


def shown_of(aggregation: Aggregation) -> Shown:
    """What can be told of all customers of a day together; of what stands until it is changed, the changes."""
    return _SHOWN.get(aggregation, Shown.EVENTS)


_REVENUE = """
select issuing_date, currency, sum(total_amount_cents) as cents from invoice
where organization_id = %s and status = 'finalized' and created_at >= %s
group by 1, 2 order by 1
"""

_TOP = """
select c.external_id, coalesce(c.name, c.external_id) as name, i.currency, sum(i.total_amount_cents) as cents
from invoice i join customer c on c.id = i.customer_id
where i.organization_id = %s and i.status = 'finalized' and i.created_at >= %s
group by 1, 2, 3 order by 4 desc, 1 limit %s
"""

_WAITING = """
select currency, count(*) as count, sum(total_amount_cents - total_paid_amount_cents) as cents
from invoice
where organization_id = %s and created_at >= %s and status = 'finalized' and payment_status <> 'succeeded'
    and total_amount_cents > 0
group by 1 order by 2 desc, 1
"""

# The newest events by arrival, through the index on seq, bounded however many there are.
_RATE = """
select count(*) from sent_event e join series s on s.id = e.series_id
where e.seq > (select last_value from event_seq_seq) - %(most)s and e.created_at > %(since)s
    and s.organization_id = %(organization)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopCustomer:
    """A customer by what was invoiced."""

    external_id: str
    name: str
    currency: str
    cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Invoices that are not paid, in one currency."""

    currency: str
    count: int
    cents: int


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
    """UTC day -> value of the dimension -> what is shown, as far as it is rolled up."""
    values = {"organization": organization_id, "code": code, "key": key or ""}
    found: dict[date, dict[str, Decimal]] = {}
    for month, start, end in _by_month(since, until):
        days = {**values, "month": month, "since": start, "until": end}
        for starts_at, kind, units in conn.execute(_STATEMENTS[shown], days):
            found.setdefault(starts_at.date(), {})[kind] = units
    return found


def _by_month(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime, datetime]]:
    """UTC month, and what of the window lies in it."""
    while since < until:
        month = since.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = (month + timedelta(days=32)).replace(day=1)
        yield month, since, min(following, until)
        since = following


def invoiced_by_day(
    conn: Connection[Any], organization_id: UUID, *, since: datetime
) -> Mapping[str, Sequence[tuple[date, int]]]:
    """Currency -> (issuing date, cents) of finalized invoices made since then."""
    found: dict[str, list[tuple[date, int]]] = {}
    for day, currency, cents in conn.execute(_REVENUE, [organization_id, since]):
        found.setdefault(currency, []).append((day, int(cents)))
    return found


def top_customers(conn: Connection[Any], organization_id: UUID, *, since: datetime) -> list[TopCustomer]:
    """Those who were invoiced the most since then."""
    rows = conn.execute(_TOP, [organization_id, since, CUSTOMERS_SHOWN]).fetchall()
    return [
        TopCustomer(external_id=external_id, name=name, currency=currency, cents=int(cents))
        for external_id, name, currency, cents in rows
    ]


def waiting(conn: Connection[Any], organization_id: UUID, *, since: datetime) -> list[Waiting]:
    """What was invoiced since then and is not paid."""
    rows = conn.execute(_WAITING, [organization_id, since]).fetchall()
    return [Waiting(currency=currency, count=count, cents=int(cents)) for currency, count, cents in rows]


def events_per_second(conn: Connection[Any], organization_id: UUID, *, since: datetime) -> Decimal:
    """Over the last RATE_SECONDS, of which `since` is the beginning."""
    values = {"organization": organization_id, "since": since, "most": EVENTS_LOOKED_AT}
    conn.execute("set local enable_seqscan = off")
    row = conn.execute(_RATE, values).fetchone()
    conn.execute("set local enable_seqscan = on")
    return Decimal(row[0] if row else 0) / RATE_SECONDS
