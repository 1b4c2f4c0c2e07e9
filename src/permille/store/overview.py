"""An organization at a glance, for the home page: what was invoiced, and what waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.record import Record
from permille.store.analytics import OF_PAYERS

CUSTOMERS_SHOWN = 8

_FINAL = (
    "i.organization_id = %(organization)s and i.created_at >= %(since)s and i.status = 'finalized'"
    f" and {OF_PAYERS}"
)

_REVENUE = f"""
select i.issuing_date, i.currency, sum(i.total_amount_cents) as cents from invoice i
where {_FINAL} group by 1, 2 order by 1
"""

_TOP = f"""
select c.external_id, coalesce(c.name, c.external_id) as name, i.currency, sum(i.total_amount_cents) as cents
from invoice i join customer c on c.id = i.customer_id
where {_FINAL} group by 1, 2, 3 order by 4 desc, 1 limit %(limit)s
"""

_WAITING = f"""
select i.currency, count(*) as count,
    sum(i.total_amount_cents - i.total_paid_amount_cents - i.offset_amount_cents) as cents
from invoice i
where {_FINAL} and i.payment_status <> 'succeeded' and i.payment_dispute_lost_at is null and i.total_amount_cents > 0
group by 1 order by 2 desc, 1
"""


class TopCustomer(Record, kw_only=True):
    """A customer by what was invoiced."""

    external_id: str
    name: str
    currency: str
    cents: int


class UnpaidInvoices(Record, kw_only=True):
    """Invoices that are not paid, in one currency, and what is due of them."""

    currency: str
    count: int
    cents: int


def invoiced_by_day(
    conn: Connection[Any], organization_id: UUID, *, since: datetime
) -> Mapping[str, Sequence[tuple[date, int]]]:
    """Currency -> (issuing date, cents) of finalized invoices made since then."""
    found: dict[str, list[tuple[date, int]]] = {}
    for day, currency, cents in conn.execute(_REVENUE, {"organization": organization_id, "since": since}):
        found.setdefault(currency, []).append((day, int(cents)))
    return found


def top_customers(conn: Connection[Any], organization_id: UUID, *, since: datetime) -> list[TopCustomer]:
    """Those who were invoiced the most since then."""
    values = {"organization": organization_id, "since": since, "limit": CUSTOMERS_SHOWN}
    rows = conn.execute(_TOP, values).fetchall()
    return [
        TopCustomer(external_id=external_id, name=name, currency=currency, cents=int(cents))
        for external_id, name, currency, cents in rows
    ]


def waiting(conn: Connection[Any], organization_id: UUID, *, since: datetime) -> list[UnpaidInvoices]:
    """What was invoiced since then and is not paid."""
    rows = conn.execute(_WAITING, {"organization": organization_id, "since": since}).fetchall()
    return [
        UnpaidInvoices(currency=currency, count=count, cents=int(cents)) for currency, count, cents in rows
    ]
