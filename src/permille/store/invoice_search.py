"""Lists of invoices and of fees: which ones, in which order, and how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.record import Record, field
from permille.database.typed_rows import typed_row
from permille.store.fees import FEE_COLUMNS, StoredFee
from permille.store.invoices import INVOICE_COLUMNS, StoredInvoice

VISIBLE = ("draft", "finalized", "voided", "failed", "pending")
"""The statuses that the API shows; the others are Permille's own business."""


class InvoiceSearch(Record, kw_only=True):
    """Every condition that is given must hold; bounds are inclusive."""

    external_customer_id: str | None = None
    statuses: Sequence[str] = ()
    payment_statuses: Sequence[str] = ()
    invoice_types: Sequence[str] = ()
    billing_entity_codes: Sequence[str] = ()
    currency: str | None = None
    payment_overdue: bool | None = None
    payment_dispute_lost: bool | None = None
    self_billed: bool | None = None
    issuing_date_from: date | None = None
    issuing_date_to: date | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    search_term: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class FeeSearch(Record, kw_only=True):
    """Every condition that is given must hold; bounds are inclusive."""

    external_subscription_id: str | None = None
    external_customer_id: str | None = None
    currency: str | None = None
    fee_type: str | None = None
    billable_metric_code: str | None = None
    payment_status: str | None = None
    event_transaction_id: str | None = None
    created_at_from: datetime | None = None
    created_at_to: datetime | None = None
    succeeded_at_from: datetime | None = None
    succeeded_at_to: datetime | None = None
    failed_at_from: datetime | None = None
    failed_at_to: datetime | None = None
    refunded_at_from: datetime | None = None
    refunded_at_to: datetime | None = None


class _Conditions:
    def __init__(self, condition: str, value: Any) -> None:
        self.parts = [condition]
        self.values: list[Any] = [value]

    def add(self, condition: str, value: Any) -> None:
        """The condition, unless there is no value for it."""
        if value is not None and value != []:
            self.parts.append(condition)
            self.values.append(value)

    @property
    def text(self) -> str:
        return " and ".join(self.parts)


def invoices(
    conn: Connection[Any], organization_id: UUID, search: InvoiceSearch, *, limit: int, offset: int
) -> tuple[list[StoredInvoice], int]:
    """Invoices, newest first, and how many there are."""
    where = _Conditions("organization_id = %s", organization_id)
    where.add("status = any(%s)", [one for one in search.statuses or VISIBLE if one in VISIBLE] or [""])
    where.add("payment_status = any(%s)", list(search.payment_statuses))
    where.add("invoice_type = any(%s)", list(search.invoice_types))
    where.add(
        "billing_entity_id in (select id from billing_entity where organization_id = invoice.organization_id"
        " and code = any(%s))",
        list(search.billing_entity_codes),
    )
    where.add("currency = %s", search.currency)
    where.add("payment_overdue = %s", search.payment_overdue)
    where.add("(payment_dispute_lost_at is not null) = %s", search.payment_dispute_lost)
    where.add(
        "exists (select from customer c where c.id = invoice.customer_id and c.account_type = 'partner') = %s",
        search.self_billed,
    )
    where.add("issuing_date >= %s", search.issuing_date_from)
    where.add("issuing_date <= %s", search.issuing_date_to)
    where.add("total_amount_cents >= %s", search.amount_from)
    where.add("total_amount_cents <= %s", search.amount_to)
    where.add(
        "customer_id in (select id from customer where organization_id = invoice.organization_id"
        " and external_id = %s)",
        search.external_customer_id,
    )
    if search.search_term:
        where.add(
            "strpos(lower(concat_ws(' ', number, id, (select concat_ws(' ', c.name, c.external_id, c.email)"
            " from customer c where c.id = invoice.customer_id))), %s) > 0",
            search.search_term.lower(),
        )
    for key, value in search.metadata.items():
        where.add("metadata @> %s", Jsonb([{"key": key, "value": value} if value else {"key": key}]))
    with conn.cursor(row_factory=typed_row(StoredInvoice)) as cursor:
        rows = cursor.execute(
            f"select {INVOICE_COLUMNS} from invoice where {where.text}"
            " order by created_at desc, id limit %s offset %s",
            [*where.values, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) from invoice where {where.text}", where.values).fetchone()
    return rows, row[0] if row else 0


def visible_invoice(conn: Connection[Any], organization_id: UUID, invoice_id: UUID) -> StoredInvoice | None:
    """The organization's invoice with this id, unless its status hides it."""
    with conn.cursor(row_factory=typed_row(StoredInvoice)) as cursor:
        return cursor.execute(
            f"select {INVOICE_COLUMNS} from invoice where id = %s and organization_id = %s and status = any(%s)",
            [invoice_id, organization_id, list(VISIBLE)],
        ).fetchone()


def set_metadata(
    conn: Connection[Any], invoice_id: UUID, metadata: Sequence[Mapping[str, Any]], *, now: datetime
) -> None:
    """Replace the notes on an invoice."""
    conn.execute(
        "update invoice set metadata = %s, updated_at = %s where id = %s",
        [Jsonb(list(metadata)), now, invoice_id],
    )


_SHOWN_FEE = "(invoice_id is null or (select status from invoice i where i.id = fee.invoice_id) = any(%s))"


def fees(
    conn: Connection[Any], organization_id: UUID, search: FeeSearch, *, limit: int, offset: int
) -> tuple[list[StoredFee], int]:
    """Fees, newest first, and how many there are."""
    where = _Conditions("organization_id = %s", organization_id)
    where.add(_SHOWN_FEE, list(VISIBLE))
    where.add("amount_currency = %s", search.currency)
    where.add("fee_type = %s", search.fee_type)
    where.add("payment_status = %s", search.payment_status)
    where.add("event_transaction_id = %s", search.event_transaction_id)
    where.add("created_at >= %s", search.created_at_from)
    where.add("created_at <= %s", search.created_at_to)
    where.add("succeeded_at >= %s", search.succeeded_at_from)
    where.add("succeeded_at <= %s", search.succeeded_at_to)
    where.add("failed_at >= %s", search.failed_at_from)
    where.add("failed_at <= %s", search.failed_at_to)
    where.add("refunded_at >= %s", search.refunded_at_from)
    where.add("refunded_at <= %s", search.refunded_at_to)
    where.add(
        "subscription_id in (select id from subscription s where s.organization_id = fee.organization_id"
        " and s.external_id = %s)",
        search.external_subscription_id,
    )
    where.add(
        "customer_id in (select id from customer c where c.organization_id = fee.organization_id"
        " and c.external_id = %s)",
        search.external_customer_id,
    )
    where.add(
        "charge_id in (select c.id from charge c join billable_metric m on m.id = c.billable_metric_id"
        " where m.organization_id = fee.organization_id and m.code = %s)",
        search.billable_metric_code,
    )
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
        rows = cursor.execute(
            f"select {FEE_COLUMNS} from fee where {where.text}"
            " order by created_at desc, id limit %s offset %s",
            [*where.values, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) from fee where {where.text}", where.values).fetchone()
    return rows, row[0] if row else 0


def visible_fee(conn: Connection[Any], organization_id: UUID, fee_id: UUID) -> StoredFee | None:
    """The organization's fee with this id, unless its invoice is hidden."""
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
        return cursor.execute(
            f"select {FEE_COLUMNS} from fee where id = %s and organization_id = %s and {_SHOWN_FEE}",
            [fee_id, organization_id, list(VISIBLE)],
        ).fetchone()
