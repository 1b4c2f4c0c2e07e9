"""Payments of invoices: recorded, and with all that follows when an invoice is paid, or is not any more.

Source: semantics-billing.md sections 4.10 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Forbidden, Invalid, NotAllowed, NotFound
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.payment import PayableType, PaymentStatus, amount_problem
from permille.core.mail import MailKind
from permille.core.record import Record
from permille.ids import new_id
from permille.out.payments.manual import MANUAL
from permille.out.payments.provider import Collection, PaymentProvider
from permille.store import customers, invoice_search, invoices, payments, webhooks
from permille.store.invoices import StoredInvoice
from permille.store.payments import Receipt, StoredPayment
from permille.usecases import activations, dunning, payment_requests
from permille.usecases.invoices import opened, single
from permille.usecases.mail import mail_new
from permille.usecases.wallets import transactions

Follow = Callable[[Connection[Any], Sequence[StoredInvoice], datetime], None]


def _queue_webhooks(conn: Connection[Any], changed: Sequence[StoredInvoice], now: datetime) -> None:
    webhooks.enqueue_of(
        conn,
        "invoice.payment_status_updated",
        changed[0].organization_id,
        [row.id for row in changed],
        now=now,
    )


FOLLOWS: tuple[Follow, ...] = (
    opened.payment_changed,
    activations.payment_changed,
    transactions.payment_changed,
    _queue_webhooks,
    payment_requests.settle,
    dunning.reset,
)
"""What follows when the payment status of invoices of an organization has changed, in this order.

Each is called with the invoices as they are now, whose customers are locked.
"""


def set_status(
    conn: Connection[Any], changing: Sequence[StoredInvoice], payment_status: PaymentStatus, *, now: datetime
) -> list[StoredInvoice]:
    """Set the payment status of invoices of an organization whose customers are locked, with all that follows.

    Those that have it already stay as they are. Answers all of them, as they are then.
    """
    ids = [row.id for row in changing if row.payment_status != payment_status]
    if ids:
        payments.set_invoice_statuses(conn, ids, payment_status, now=now)
        found = invoices.invoices_by_ids(conn, ids)
        for follow in FOLLOWS:
            follow(conn, [found[row_id] for row_id in ids], now)
    after = invoices.invoices_by_ids(conn, [row.id for row in changing])
    return [after[row.id] for row in changing]


def update(
    conn: Connection[Any],
    invoice: StoredInvoice,
    *,
    payment_status: PaymentStatus | None,
    metadata: Sequence[Mapping[str, Any]] | None,
    now: datetime,
) -> StoredInvoice:
    """Set what is not None of the payment status and the metadata, all that may change on a final invoice.

    A status that is set so is no payment: what was paid stays as it is. Raises NotAllowed for a draft, and for an invoice
    that is void.
    """
    customers.lock(conn, invoice.customer_id)
    before = single.by_id(conn, invoice.organization_id, invoice.id)
    if before.status is InvoiceStatus.VOIDED:
        raise NotAllowed("update_on_voided_invoice")
    if before.status is InvoiceStatus.DRAFT and payment_status is not None:
        raise NotAllowed("payment_status_update_on_draft_invoice")
    if before.status is InvoiceStatus.DRAFT and metadata is not None:
        raise NotAllowed("metadata_on_draft_invoice")
    if metadata is not None:
        invoice_search.set_metadata(conn, before.id, metadata, now=now)
    if payment_status is not None:
        set_status(conn, [before], payment_status, now=now)
    return single.by_id(conn, before.organization_id, before.id)


class NewPayment(Record, kw_only=True):
    """A payment that somebody records."""

    invoice_id: UUID | None
    amount_cents: int
    reference: str
    paid_at: datetime | None = None


PAYABLE = ("finalized", "open")
"""Statuses of invoices that can be paid. One that is open is not shown, as it becomes final with its payment."""


def pay(conn: Connection[Any], organization_id: UUID, wanted: NewPayment, *, now: datetime) -> StoredPayment:
    """Record a payment of an invoice, or of a part of it, with its receipt.

    Payments of one invoice wait for each other, so that they never come to more than is due.
    Raises NotFound, Forbidden for an invoice that is not final, and Invalid.
    """
    invoice = payable(conn, organization_id, wanted.invoice_id)
    customers.lock(conn, invoice.customer_id)
    invoice = payable(conn, organization_id, invoice.id)
    if invoice.status not in PAYABLE:
        raise Forbidden("invoice_is_not_final")
    problem = amount_problem(
        wanted.amount_cents,
        due_cents=invoice.due_amount_cents,
        is_whole=invoice.invoice_type == "credit" or invoice.status is InvoiceStatus.OPEN,
    )
    if problem:
        raise Invalid({"amount_cents": [problem]})
    payment = StoredPayment(
        id=new_id(now),
        organization_id=organization_id,
        customer_id=invoice.customer_id,
        payable_type=PayableType.INVOICE,
        payable_id=invoice.id,
        amount_cents=wanted.amount_cents,
        currency=invoice.currency,
        payment_type=MANUAL.name,
        status=PaymentStatus.SUCCEEDED,
        payment_status=PaymentStatus.SUCCEEDED,
        reference=wanted.reference,
        created_at=wanted.paid_at or now,
        updated_at=now,
    )
    _add(conn, payment, {invoice.id: wanted.amount_cents}, now=now)
    return payment


def _add(conn: Connection[Any], payment: StoredPayment, shares: Mapping[UUID, int], *, now: datetime) -> None:
    """Store a payment that succeeded, and set the status of the invoices of which nothing is due any more."""
    payments.add(conn, payment, shares)
    customer = customers.by_ids(conn, [payment.customer_id])[payment.customer_id]
    receipt_id = new_id(now)
    payments.add_receipt(conn, payment, receipt_id=receipt_id, slug=customer.slug, now=now)
    webhooks.enqueue_of(conn, "payment.succeeded", payment.organization_id, [payment.id], now=now)
    paid = invoices.invoices_by_ids(conn, list(shares)).values()
    set_status(conn, [row for row in paid if not row.due_amount_cents], PaymentStatus.SUCCEEDED, now=now)
    for what in ("created", "generated"):  # it can be fetched at once
        webhooks.enqueue_of(conn, f"payment_receipt.{what}", payment.organization_id, [receipt_id], now=now)
    mail_new(conn, payment.organization_id, MailKind.PAYMENT_RECEIPT, [receipt_id], now=now)


def payable(conn: Connection[Any], organization_id: UUID, invoice_id: UUID | None) -> StoredInvoice:
    """The invoice, also one that is not shown before it is paid. Raises NotFound."""
    found = invoices.invoices_by_ids(conn, [invoice_id]).get(invoice_id) if invoice_id else None
    is_known = found is not None and found.status in (*PAYABLE, *invoice_search.VISIBLE)
    if found is None or not is_known or found.organization_id != organization_id:
        raise NotFound("invoice")
    return found


def by_id(conn: Connection[Any], organization_id: UUID, payment_id: UUID | None) -> StoredPayment:
    """Raises NotFound."""
    found = payments.by_ids(conn, [payment_id]).get(payment_id) if payment_id else None
    if found is None or found.organization_id != organization_id:
        raise NotFound("payment")
    return found


def receipt_by_id(conn: Connection[Any], organization_id: UUID, receipt_id: UUID | None) -> Receipt:
    """Raises NotFound."""
    found = payments.receipt(conn, receipt_id) if receipt_id else None
    if found is None or found[0] != organization_id:
        raise NotFound("payment_receipt")
    return found[1]


def provider() -> PaymentProvider:
    """Who collects what customers owe: nobody yet, so that payments are recorded by hand."""
    return MANUAL


def retry(conn: Connection[Any], invoice: StoredInvoice, *, now: datetime) -> None:
    """Try again to collect what is due of an invoice. Raises NotAllowed when there is nothing to collect."""
    if (
        invoice.status in (InvoiceStatus.DRAFT, InvoiceStatus.VOIDED)
        or invoice.payment_status == PaymentStatus.SUCCEEDED
    ):
        raise NotAllowed("invalid_status")
    customer = customers.by_ids(conn, [invoice.customer_id])[invoice.customer_id]
    outcome = provider().collect(
        Collection(
            id=invoice.id,
            external_customer_id=customer.external_id,
            amount_cents=invoice.due_amount_cents,
            currency=invoice.currency,
        )
    )
    if outcome.payment_status is PaymentStatus.FAILED:
        payload = {
            "lago_invoice_id": str(invoice.id),
            "lago_customer_id": str(customer.id),
            "external_customer_id": customer.external_id,
            "provider_customer_id": None,
            "payment_provider": None,
            "payment_provider_code": None,
            "provider_error": {"message": outcome.status, "error_code": outcome.error_code},
        }
        webhooks.enqueue(
            conn,
            organization_id=invoice.organization_id,
            webhook_type="invoice.payment_failure",
            object_type="payment_provider_invoice_payment_error",
            object_ids=[invoice.id],
            payload=payload,
            now=now,
        )
