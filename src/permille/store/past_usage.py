"""The periods of a subscription that are billed, read back from the invoices."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record


class PastPeriod(Record, kw_only=True):
    """A period [from_at, to_at) on an invoice; the amounts are the whole invoice's, as in Lago."""

    invoice_id: UUID
    subscription_id: UUID
    from_at: datetime
    to_at: datetime
    issuing_date: date
    currency: str
    fees_amount_cents: int
    taxes_amount_cents: int


BILLS_PERIOD = (
    "invoicing_reason not in ('in_advance_charge', 'in_advance_charge_periodic', 'progressive_billing')"
)
"""A row of invoice_subscription whose invoice bills the usage of its period; what is in advance or at a threshold is apart."""

_PERIODS = (
    "from invoice_subscription p join invoice i on i.id = p.invoice_id"
    " join subscription s on s.id = p.subscription_id join customer c on c.id = s.customer_id"
    " where s.organization_id = %s and s.external_id = %s and c.external_id = %s and c.deleted_at is null"
    " and p.charges_from_at is not null and p.charges_to_at is not null"
    f" and {BILLS_PERIOD}"
)


def periods(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_customer_id: str,
    external_subscription_id: str,
    limit: int,
    offset: int,
) -> tuple[list[PastPeriod], int]:
    """The billed periods, newest first, and how many there are; none for what is not known."""
    whose = [organization_id, external_subscription_id, external_customer_id]
    with conn.cursor(row_factory=class_row(PastPeriod)) as cursor:
        rows = cursor.execute(
            "select p.invoice_id, p.subscription_id, p.charges_from_at as from_at, p.charges_to_at as to_at,"
            " i.issuing_date, i.currency, i.fees_amount_cents,"
            " (select coalesce(sum(f.taxes_amount_cents), 0)::bigint from fee f where f.invoice_id = i.id)"
            f" as taxes_amount_cents {_PERIODS}"
            " order by p.charges_from_at desc, i.created_at desc, i.id limit %s offset %s",
            [*whose, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) {_PERIODS}", whose).fetchone()
    return rows, row[0] if row else 0
