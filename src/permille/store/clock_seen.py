"""What the database says about the time and its schema, and the last instant that a worker has seen."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record

_SIGHT = """
select clock_timestamp() as database_now, at as seen_at, doubted,
    (select max(version) from schema_migration) as schema_version
from clock_seen
"""

# A customer that is held, or an organization that is fenced off, is owed bills for a reason that is known.
_OWED = """
select count(*) from subscription s join organization o on o.id = s.organization_id join plan p on p.id = s.plan_id
where not o.test_mode and s.status = 'active'
    and s.next_billing_at + case
        when p.interval = 'weekly' then interval '7 days'
        when p.interval = 'monthly' or p.bill_charges_monthly then interval '1 month'
        when p.interval = 'quarterly' then interval '3 months'
        when p.interval = 'semiannual' then interval '6 months'
        else interval '1 year' end + interval '1 day' <= %s
    and not exists (select from billing_hold h where h.customer_id = s.customer_id and h.retry_at is not null)
    and not exists (select from fence f where f.organization_id = s.organization_id)
"""


class Sight(Record, kw_only=True):
    """One look at the database."""

    database_now: datetime
    seen_at: datetime | None
    """The last instant that a worker has seen; None before the first one."""
    doubted: bool
    """Whether the clock was set while a worker ran, and nobody has confirmed it."""
    schema_version: int


def sight(conn: Connection[Any]) -> Sight:
    """What the database says now."""
    with conn.cursor(row_factory=class_row(Sight)) as cursor:
        found = cursor.execute(_SIGHT).fetchone()
    assert found is not None, "clock_seen has its one row from its migration on"
    return found


def see(conn: Connection[Any], at: datetime) -> None:
    """A worker has seen this instant, and doubts nothing."""
    conn.execute("update clock_seen set at = greatest(at, %s), doubted = false", [at])


def doubt(conn: Connection[Any]) -> None:
    """A worker has seen that the clock was set."""
    conn.execute("update clock_seen set doubted = true where at is not null")


def confirm(conn: Connection[Any], at: datetime) -> None:
    """Somebody says that this is the time, whatever was seen before."""
    conn.execute("update clock_seen set at = %s, doubted = false", [at])


def owed_several_periods(conn: Connection[Any], *, now: datetime) -> int:
    """How many subscriptions of live organizations would be billed for more than one period at once."""
    row = conn.execute(_OWED, [now]).fetchone()
    assert row is not None
    return int(row[0])
