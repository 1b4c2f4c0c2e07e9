"""One invoice or fee that somebody names: a draft is priced again, or becomes final before its day."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import NotAllowed, NotFound
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.payment import PaymentStatus
from permille.store import customers, fees, invoice_search, invoices, webhooks
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices import drafts


def by_id(conn: Connection[Any], organization_id: UUID, invoice_id: UUID | None) -> StoredInvoice:
    """The invoice, unless it is hidden. Raises NotFound."""
    found = invoice_search.visible_invoice(conn, organization_id, invoice_id) if invoice_id else None
    if found is None:
        raise NotFound("invoice")
    return found


def fee_by_id(conn: Connection[Any], organization_id: UUID, fee_id: UUID | None) -> StoredFee:
    """The fee, unless its invoice is hidden. Raises NotFound."""
    found = invoice_search.visible_fee(conn, organization_id, fee_id) if fee_id else None
    if found is None:
        raise NotFound("fee")
    return found


def refresh(conn: Connection[Any], invoice: StoredInvoice, *, now: datetime) -> StoredInvoice:
    """Price a draft again; any other invoice stays as it is."""
    if invoice.status is InvoiceStatus.DRAFT:
        customers.lock(conn, invoice.customer_id)
        drafts.refresh(conn, [invoice.id], now=now)
    return by_id(conn, invoice.organization_id, invoice.id)


def pay_fee(
    conn: Connection[Any], fee: StoredFee, *, payment_status: PaymentStatus | None, now: datetime
) -> StoredFee:
    """Set what became of the payment of a fee on no invoice, if it is not None.

    Raises NotAllowed (invoiced_fee) for one on an invoice, perhaps since a moment ago: that one is paid there.
    """
    if fee.invoice_id is not None or fee.charge_id is None:
        raise NotAllowed("invoiced_fee")
    if payment_status is None:
        return fee
    changed = fees.set_payment_status(conn, fee.id, payment_status=payment_status, now=now)
    if changed is None:
        raise NotAllowed("invoiced_fee")
    return changed


def delete_fee(conn: Connection[Any], fee: StoredFee) -> None:
    """Delete a fee on no invoice; its event makes no other. Raises NotAllowed (invoiced_fee) for one on an invoice."""
    if not fees.delete_alone(conn, fee.id):
        raise NotAllowed("invoiced_fee")


def delete(conn: Connection[Any], invoice: StoredInvoice, *, now: datetime) -> None:
    """Hide a draft for good: what it bills is billed by no other invoice. Raises NotAllowed for any other invoice."""
    customers.lock(conn, invoice.customer_id)
    if not invoices.delete_draft(conn, invoice.id, now=now):
        raise NotAllowed("not_deletable")
    webhooks.enqueue_of(conn, "invoice.deleted", invoice.organization_id, [invoice.id], now=now)


def finalize(conn: Connection[Any], invoice: StoredInvoice, *, now: datetime) -> StoredInvoice:
    """Make a draft final. Raises NotFound when it is none, perhaps since a moment ago."""
    customers.lock(conn, invoice.customer_id)
    if by_id(conn, invoice.organization_id, invoice.id).status is not InvoiceStatus.DRAFT:
        raise NotFound("invoice")
    drafts.finalize(conn, [invoice.id], at=now)
    return invoices.invoices_by_ids(conn, [invoice.id])[invoice.id]
