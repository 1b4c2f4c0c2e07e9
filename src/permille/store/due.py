"""What is due, and claiming it: instants in columns, each with an index of the rows where it is set."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription
from permille.core.metering.event import LOOKED_AT_AFTER
from permille.store import subscriptions
from permille.store.billing_holds import NOT_HELD

_KINDS = (("activates_at", "pending"), ("ends_at", "active"), ("next_billing_at", "active"))


def next_instant(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which anything of an organization is due, of customers that are not held."""
    firsts = ", ".join(
        f"(select min({column}) from subscription where organization_id = %(organization)s"
        f" and {column} <= %(until)s and status = '{status}' and {NOT_HELD})"
        for column, status in _KINDS
    )
    firsts += (
        ", (select min(finalizes_at) from invoice where organization_id = %(organization)s"
        f" and finalizes_at <= %(until)s and price_retry_at is null and {NOT_HELD})"
        ", (select min(starts_at) + %(after)s from event_hour where organization_id = %(organization)s"
        " and starts_at <= %(until)s - %(after)s)"
    )
    row = conn.execute(
        f"select least({firsts})",
        {"organization": organization_id, "until": until, "after": LOOKED_AT_AFTER},
    ).fetchone()
    return row[0] if row else None


_NOT_WAITING = (
    "not exists (select from billing_hold where customer_id = w.customer_id and retry_at > %(until)s)"
)


def live_organizations(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations that have anything due, in any order."""
    exists = " or ".join(
        f"exists (select from subscription w where organization_id = o.id and {column} <= %(until)s"
        f" and status = '{status}' and {_NOT_WAITING})"
        for column, status in _KINDS
    )
    exists += (
        " or exists (select from invoice w where organization_id = o.id and finalizes_at <= %(until)s"
        f" and price_retry_at is null and {_NOT_WAITING})"
        " or exists (select from invoice where organization_id = o.id and price_retry_at <= %(until)s)"
    )
    exists += (
        " or exists (select from event_hour where organization_id = o.id"
        " and starts_at <= %(until)s - %(after)s)"
    )
    rows = conn.execute(
        f"select o.id from organization o where not o.test_mode and ({exists})",
        {"until": until, "after": LOOKED_AT_AFTER},
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def claim_starts(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[Subscription]:
    """Lock pending subscriptions whose day has come, with their customers."""
    return _claim(
        conn, organization_id, column="activates_at", status="pending", until=until, limit=limit, wait=wait
    )


def claim_ends(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[Subscription]:
    """Lock running subscriptions whose last day has come, with their customers."""
    return _claim(
        conn, organization_id, column="ends_at", status="active", until=until, limit=limit, wait=wait
    )


def _claim(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    column: str,
    status: str,
    until: datetime,
    limit: int,
    wait: bool,
) -> list[Subscription]:
    """In the order of the instant and then of the making, without those that someone else has locked."""
    rows = conn.execute(
        "select s.id from subscription s join customer c on c.id = s.customer_id"
        f" where s.organization_id = %(organization)s and s.{column} <= %(until)s and s.status = '{status}'"
        f" and s.{NOT_HELD} order by s.{column}, s.created_at, s.id limit %(limit)s"
        f" for no key update of c, s {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    found = subscriptions.by_ids(conn, [row_id for (row_id,) in rows])
    return [found[row_id] for (row_id,) in rows]
