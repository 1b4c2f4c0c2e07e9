"""Invoices, the subscriptions on them and their fees: read by id, written many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInvoice:
    """A row of invoice. Amounts are in the currency's smallest unit."""

    id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_id: UUID
    sequential_id: int | None
    billing_entity_sequential_id: int | None
    number: str
    purchase_order_number: str | None
    invoice_type: str
    status: str
    payment_status: str
    payment_overdue: bool
    payment_dispute_lost_at: datetime | None
    currency: str
    timezone: str
    issuing_date: date
    payment_due_date: date
    expected_finalization_date: date
    net_payment_term: int
    fees_amount_cents: int
    taxes_amount_cents: int
    taxes_rate: Decimal
    progressive_billing_credit_amount_cents: int
    coupons_amount_cents: int
    credit_notes_amount_cents: int
    sub_total_excluding_taxes_amount_cents: int
    sub_total_including_taxes_amount_cents: int
    prepaid_credit_amount_cents: int
    total_amount_cents: int
    total_paid_amount_cents: int
    metadata: Sequence[Mapping[str, Any]]
    skip_charges: bool
    finalized_at: datetime | None
    voided_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceSubscription:
    """A subscription on an invoice with the periods that it is billed for; ends are exclusive."""

    invoice_id: UUID
    subscription_id: UUID
    invoicing_reason: str
    recurring: bool
    billed_at: datetime
    """The instant that was due."""
    from_at: datetime | None
    to_at: datetime | None
    charges_from_at: datetime | None
    charges_to_at: datetime | None
    fixed_charges_from_at: datetime | None
    fixed_charges_to_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFee:
    """A row of fee: one line of an invoice. `position` is its place there; the period's end is exclusive."""

    id: UUID
    organization_id: UUID
    invoice_id: UUID | None
    customer_id: UUID
    subscription_id: UUID | None
    fee_type: str
    charge_id: UUID | None
    charge_filter_id: UUID | None
    position: int
    pay_in_advance: bool
    invoice_display_name: str | None
    description: str | None
    units: Decimal
    total_aggregated_units: Decimal | None
    events_count: int | None
    amount_cents: int
    amount_currency: str
    precise_amount_cents: Decimal
    unit_amount_cents: int
    precise_unit_amount: Decimal
    taxes_amount_cents: int
    taxes_precise_amount_cents: Decimal
    taxes_rate: Decimal
    precise_coupons_amount_cents: Decimal
    amount_details: Mapping[str, Any]
    grouped_by: Mapping[str, str | None]
    payment_status: str
    from_at: datetime | None
    to_at: datetime | None
    event_transaction_id: str | None
    true_up_parent_fee_id: UUID | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    refunded_at: datetime | None
    created_at: datetime


def _columns(record: type[Any]) -> str:
    return ", ".join(field.name for field in fields(record))


INVOICE_COLUMNS = _columns(StoredInvoice)
FEE_COLUMNS = _columns(StoredFee)
_SUBSCRIPTION_COLUMNS = _columns(InvoiceSubscription)


def invoices_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredInvoice]:
    """Invoices of any status by id."""
    with conn.cursor(row_factory=class_row(StoredInvoice)) as cursor:
        rows = cursor.execute(
            f"select {INVOICE_COLUMNS} from invoice where id = any(%s)", [list(ids)]
        ).fetchall()
    return {row.id: row for row in rows}


def fees_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[StoredFee]]:
    """The fees of each invoice in its own order; an invoice without fees has an empty list."""
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        rows = cursor.execute(
            f"select {FEE_COLUMNS} from fee where invoice_id = any(%s) order by invoice_id, position, id",
            [list(invoice_ids)],
        ).fetchall()
    found: dict[UUID, list[StoredFee]] = {invoice_id: [] for invoice_id in invoice_ids}
    for row in rows:
        assert row.invoice_id is not None, row.id
        found[row.invoice_id].append(row)
    return found


def subscriptions_of(
    conn: Connection[Any], invoice_ids: Collection[UUID]
) -> dict[UUID, list[InvoiceSubscription]]:
    """The subscriptions on each invoice, in the order of their ids."""
    with conn.cursor(row_factory=class_row(InvoiceSubscription)) as cursor:
        rows = cursor.execute(
            f"select {_SUBSCRIPTION_COLUMNS} from invoice_subscription where invoice_id = any(%s)"
            " order by invoice_id, subscription_id",
            [list(invoice_ids)],
        ).fetchall()
    found: dict[UUID, list[InvoiceSubscription]] = defaultdict(list)
    for row in rows:
        found[row.invoice_id].append(row)
    return found
