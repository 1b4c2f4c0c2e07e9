"""What is due, and claiming it: instants in columns, each with an index of the rows where it is set."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription
from permille.database.bulk import uuid_array
from permille.store import subscriptions
from permille.store.billing_holds import NOT_HELD


class Instant(StrEnum):
    """A column with an instant at which something of a subscription is due."""

    START = "activates_at"
    END = "ends_at"
    END_ALERT = "end_alert_at"
    BILL = "next_billing_at"


_STATUS = {
    Instant.START: "pending",
    Instant.END: "active",
    Instant.END_ALERT: "active",
    Instant.BILL: "active",
}


def first_of_subscriptions(
    conn: Connection[Any], organization_id: UUID, instant: Instant, *, until: datetime
) -> datetime | None:
    """The first such instant up to `until` of an organization's subscriptions whose customers are not held."""
    row = conn.execute(
        f"select min({instant.value}) from subscription where organization_id = %(organization)s"
        f" and {instant.value} <= %(until)s"
        f" and status = '{_STATUS[instant]}' and {NOT_HELD}",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


def first_of_drafts(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which a draft is to be finalized, of customers that are not held."""
    row = conn.execute(
        "select min(finalizes_at) from invoice where organization_id = %(organization)s and finalizes_at <= %(until)s"
        f" and price_retry_at is null and {NOT_HELD}",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


# As in the index invoice_to_be_overdue.
_UNPAID = (
    "status = 'finalized' and payment_status <> 'succeeded' and payment_dispute_lost_at is null and not payment_overdue"
    " and (payment_due_date + 1)::timestamp at time zone timezone <= %(until)s"
    " and total_amount_cents > total_paid_amount_cents + offset_amount_cents"
)
_UNPAID_NOT_HELD = f"organization_id = %(organization)s and {_UNPAID} and {NOT_HELD}"


def first_overdue(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which the last day to pay an invoice is over, in its customer's timezone."""
    row = conn.execute(
        "select min((payment_due_date + 1)::timestamp at time zone timezone) from invoice"
        f" where {_UNPAID_NOT_HELD}",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


def live_with_overdue(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations with an invoice that is overdue, and not marked so yet."""
    return _live(
        conn, f"exists (select from invoice where organization_id = o.id and {_UNPAID})", until=until
    )


def claim_overdue(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> dict[UUID, UUID]:
    """Lock invoices of which the last day to pay is over, with their customers: invoice -> customer.

    Rows that another worker has locked are skipped unless `wait` is set.
    """
    rows = conn.execute(
        "select i.id, c.id from invoice i join customer c on c.id = i.customer_id where i.id in (select id from invoice"
        f" where {_UNPAID_NOT_HELD} limit %(limit)s)"
        f" for no key update of c, i {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    return dict(rows)


def first_dunning(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which a customer may have to be asked for what is overdue."""
    row = conn.execute(
        "select min(due_at) from dunning where organization_id = %(organization)s and due_at <= %(until)s"
        f" and {NOT_HELD}",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


def live_with_dunning(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations with a customer who may have to be asked for what is overdue."""
    return _live(
        conn,
        "exists (select from dunning where organization_id = o.id and due_at <= %(until)s)",
        until=until,
    )


def first_to_expire(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which a wallet, or a rule of one, expires."""
    row = conn.execute(
        "select least((select min(expiration_at) from wallet where organization_id = %(organization)s"
        f" and status = 'active' and expiration_at <= %(until)s and {NOT_HELD}), (select min(r.expiration_at)"
        " from wallet_rule r join wallet w on w.id = r.wallet_id where r.organization_id = %(organization)s"
        f" and r.status = 'active' and r.expiration_at <= %(until)s and w.{NOT_HELD}))",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


def live_to_expire(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations with a wallet, or a rule of one, that has expired."""
    return _live(
        conn,
        "exists (select from wallet where organization_id = o.id and status = 'active' and expiration_at <= %(until)s)"
        " or exists (select from wallet_rule where organization_id = o.id and status = 'active'"
        "   and expiration_at <= %(until)s)",
        until=until,
    )


def first_top_up(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which an interval of a wallet's rule is over."""
    row = conn.execute(
        "select min(r.next_top_up_at) from wallet_rule r join wallet w on w.id = r.wallet_id"
        " where r.organization_id = %(organization)s and r.status = 'active' and r.next_top_up_at <= %(until)s"
        f" and w.{NOT_HELD}",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


def live_with_top_up(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations with a wallet whose rule is due."""
    return _live(
        conn,
        "exists (select from wallet_rule where organization_id = o.id and status = 'active'"
        " and next_top_up_at <= %(until)s)",
        until=until,
    )


_NOT_WAITING = (
    "not exists (select from billing_hold where customer_id = w.customer_id and retry_at > %(until)s)"
)


def live_of_subscriptions(conn: Connection[Any], instant: Instant, *, until: datetime) -> list[UUID]:
    """The live organizations with a subscription that is due, also of a customer that is to be tried again."""
    return _live(
        conn,
        f"exists (select from subscription w where organization_id = o.id and {instant.value} <= %(until)s"
        f" and status = '{_STATUS[instant]}' and {_NOT_WAITING})",
        until=until,
    )


def live_of_drafts(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations with a draft that is due, also one that waits for a price and is to be tried again."""
    return _live(
        conn,
        "exists (select from invoice w where organization_id = o.id and finalizes_at <= %(until)s"
        f" and price_retry_at is null and {_NOT_WAITING})"
        " or exists (select from invoice where organization_id = o.id and price_retry_at <= %(until)s)",
        until=until,
    )


def _live(conn: Connection[Any], condition: str, *, until: datetime) -> list[UUID]:
    rows = conn.execute(
        f"select o.id from organization o where not o.test_mode and ({condition})", {"until": until}
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def live_among(conn: Connection[Any], organization_ids: Collection[UUID]) -> list[UUID]:
    """Those of the organizations that have no test clock."""
    rows = conn.execute(
        "select id from organization where not test_mode and id = any(%s::uuid[])",
        [uuid_array(organization_ids)],
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def claim(
    conn: Connection[Any],
    organization_id: UUID,
    instant: Instant,
    *,
    until: datetime,
    limit: int,
    wait: bool,
) -> list[Subscription]:
    """Lock subscriptions of which such an instant has come, with their customers: in the order of the instant and then of
    the making. Rows that another worker has locked are skipped unless `wait` is set.
    """
    column = instant.value
    rows = conn.execute(
        "select s.id from subscription s join customer c on c.id = s.customer_id"
        f" where s.organization_id = %(organization)s and s.{column} <= %(until)s and s.status = '{_STATUS[instant]}'"
        f" and s.{NOT_HELD} order by s.{column}, s.created_at, s.id limit %(limit)s"
        f" for no key update of c, s {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    found = subscriptions.by_ids(conn, [row_id for (row_id,) in rows])
    return [found[row_id] for (row_id,) in rows]
