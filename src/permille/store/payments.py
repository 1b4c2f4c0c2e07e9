"""Payments, what they pay of each invoice, and their receipts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.invoice.payment import PayableType, PaymentStatus
from permille.core.record import Record
from permille.database.bulk import columns_of, int_array, uuid_array
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row


class StoredPayment(Record, kw_only=True):
    """A row of payment. Amounts are in the currency's smallest unit."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    payable_type: PayableType
    payable_id: UUID
    amount_cents: int
    currency: str
    payment_type: str
    status: str
    payment_status: PaymentStatus
    reference: str | None
    created_at: datetime
    updated_at: datetime


class PaidInvoice(Record, kw_only=True):
    """An invoice that a payment pays, or pays a part of."""

    payment_id: UUID
    invoice_id: UUID
    number: str
    amount_cents: int
    """What it pays of it."""


class Receipt(Record, kw_only=True):
    """A row of payment_receipt."""

    id: UUID
    payment_id: UUID
    number: str
    created_at: datetime


class PaymentSearch(Record, kw_only=True):
    """What a list is narrowed to; None narrows nothing."""

    external_customer_id: str | None = None
    invoice_id: UUID | None = None


_COLUMNS = columns_of(StoredPayment)


def add(conn: Connection[Any], payment: StoredPayment, shares: Mapping[UUID, int]) -> None:
    """Insert a payment that succeeded, with what it pays of each invoice, and raise what is paid of them."""
    conn.execute(
        "insert into payment select * from jsonb_populate_recordset(null::payment, %s::jsonb)",
        [exact_json([payment])],
    )
    split = {"payment": payment.id, "ids": uuid_array(shares), "amounts": int_array(shares.values())}
    conn.execute(
        "insert into invoice_payment (payment_id, invoice_id, amount_cents)"
        " select %(payment)s, * from unnest(%(ids)s::uuid[], %(amounts)s::bigint[])",
        split,
    )
    conn.execute(
        "update invoice i set total_paid_amount_cents = i.total_paid_amount_cents + w.amount, updated_at = %(now)s"
        " from unnest(%(ids)s::uuid[], %(amounts)s::bigint[]) as w (id, amount) where i.id = w.id",
        {**split, "now": payment.updated_at},
    )


def add_receipt(
    conn: Connection[Any], payment: StoredPayment, *, receipt_id: UUID, slug: str, now: datetime
) -> None:
    """Insert the receipt of a payment, with the next number of its customer, who is locked for it."""
    conn.execute(
        "insert into payment_receipt (id, organization_id, payment_id, customer_id, sequential_id, number, created_at)"
        " select %(id)s, %(organization)s, %(payment)s, %(customer)s, n.next,"
        " %(slug)s || '-' || lpad(n.next::text, greatest(3, length(n.next::text)), '0'), %(now)s"
        " from (select coalesce(max(sequential_id), 0) + 1 as next from payment_receipt"
        " where customer_id = %(customer)s) n",
        {
            "id": receipt_id,
            "organization": payment.organization_id,
            "payment": payment.id,
            "customer": payment.customer_id,
            "slug": slug,
            "now": now,
        },
    )


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredPayment]:
    with conn.cursor(row_factory=typed_row(StoredPayment)) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from payment where id = any(%s)", [list(ids)]).fetchall()
    return {row.id: row for row in rows}


def listing(
    conn: Connection[Any], organization_id: UUID, search: PaymentSearch, *, limit: int, offset: int
) -> tuple[list[StoredPayment], int]:
    """Payments, newest first, and how many there are."""
    conditions = {
        "customer_id in (select id from customer where organization_id = %(organization)s"
        " and external_id = %(external_customer_id)s)": search.external_customer_id,
        "id in (select payment_id from invoice_payment where invoice_id = %(invoice_id)s)": search.invoice_id,
    }
    chosen = [condition for condition, value in conditions.items() if value is not None]
    where = " and ".join(["organization_id = %(organization)s", *chosen])
    values = {
        "organization": organization_id,
        "external_customer_id": search.external_customer_id,
        "invoice_id": search.invoice_id,
        "limit": limit,
        "offset": offset,
    }
    with conn.cursor(row_factory=typed_row(StoredPayment)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from payment where {where}"
            " order by created_at desc, id limit %(limit)s offset %(offset)s",
            values,
        ).fetchall()
    row = conn.execute(f"select count(*) from payment where {where}", values).fetchone()
    return rows, row[0] if row else 0


def invoices_of(conn: Connection[Any], payment_ids: Collection[UUID]) -> dict[UUID, list[PaidInvoice]]:
    """Payment -> the invoices that it pays, in the order of their numbers."""
    with conn.cursor(row_factory=class_row(PaidInvoice)) as cursor:
        rows = cursor.execute(
            "select p.payment_id, p.invoice_id, i.number, p.amount_cents from invoice_payment p join invoice i on i.id = p.invoice_id"
            " where p.payment_id = any(%s) order by i.number, i.id",
            [list(payment_ids)],
        ).fetchall()
    found: dict[UUID, list[PaidInvoice]] = defaultdict(list)
    for row in rows:
        found[row.payment_id].append(row)
    return found


def billing_entity_of(conn: Connection[Any], payment_id: UUID) -> UUID:
    """The billing entity of the first invoice that a payment pays."""
    row = conn.execute(
        "select i.billing_entity_id from invoice_payment p join invoice i on i.id = p.invoice_id"
        " where p.payment_id = %s order by i.number, i.id limit 1",
        [payment_id],
    ).fetchone()
    assert row is not None, payment_id
    found: UUID = row[0]
    return found


_SOME_RECEIPTS = """
from payment_receipt where organization_id = %(organization)s and (%(invoice)s::uuid is null
    or payment_id in (select p.payment_id from invoice_payment p where p.invoice_id = %(invoice)s))
"""


def receipts(
    conn: Connection[Any], organization_id: UUID, *, invoice_id: UUID | None, limit: int, offset: int
) -> tuple[list[Receipt], int]:
    """Receipts, newest first, and how many there are; with an invoice only those of its payments."""
    values = {"organization": organization_id, "invoice": invoice_id, "limit": limit, "offset": offset}
    with conn.cursor(row_factory=class_row(Receipt)) as cursor:
        rows = cursor.execute(
            f"select id, payment_id, number, created_at {_SOME_RECEIPTS}"
            " order by created_at desc, id limit %(limit)s offset %(offset)s",
            values,
        ).fetchall()
    row = conn.execute(f"select count(*) {_SOME_RECEIPTS}", values).fetchone()
    return rows, row[0] if row else 0


def receipts_of(conn: Connection[Any], payment_ids: Collection[UUID]) -> dict[UUID, Receipt]:
    """Payment -> its receipt."""
    with conn.cursor(row_factory=class_row(Receipt)) as cursor:
        rows = cursor.execute(
            "select id, payment_id, number, created_at from payment_receipt where payment_id = any(%s)",
            [list(payment_ids)],
        ).fetchall()
    return {row.payment_id: row for row in rows}


def receipt(conn: Connection[Any], receipt_id: UUID) -> tuple[UUID, Receipt] | None:
    """The receipt with this id, and the organization that it is of."""
    row = conn.execute(
        "select organization_id, id, payment_id, number, created_at from payment_receipt where id = %s",
        [receipt_id],
    ).fetchone()
    if row is None:
        return None
    return row[0], Receipt(id=row[1], payment_id=row[2], number=row[3], created_at=row[4])


def set_invoice_statuses(
    conn: Connection[Any], invoice_ids: Sequence[UUID], payment_status: PaymentStatus, *, now: datetime
) -> None:
    """Set the payment status of invoices and of their fees; one that is paid is not overdue any more."""
    values = {"ids": list(invoice_ids), "status": payment_status, "now": now}
    conn.execute(
        "update invoice set payment_status = %(status)s, updated_at = %(now)s,"
        " payment_overdue = payment_overdue and %(status)s <> 'succeeded' where id = any(%(ids)s)",
        values,
    )
    conn.execute(
        "update fee set payment_status = %(status)s,"
        " succeeded_at = case when %(status)s = 'succeeded' then %(now)s::timestamptz end,"
        " failed_at = case when %(status)s = 'failed' then %(now)s::timestamptz end, refunded_at = null"
        " where invoice_id = any(%(ids)s) and payment_status <> %(status)s",
        values,
    )


def set_overdue(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Mark invoices that were not paid in time."""
    conn.execute(
        "update invoice set payment_overdue = true, updated_at = %s where id = any(%s)",
        [now, list(invoice_ids)],
    )
