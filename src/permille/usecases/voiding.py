"""Void a final invoice: nothing of it is due any more, and what paid for it is given back once. It keeps its number.

Source: semantics-billing.md sections 4.8 and 4.10; docs/decisions/020-voids-give-back-once.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.errors import Invalid, NotAllowed
from permille.core.invoice.crediting import (
    NO_PARTS,
    BilledInvoice,
    CreditSplit,
    note_on_all,
    note_on_part,
    note_on_rest,
)
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.payment import PaymentStatus
from permille.store import customers, invoices, wallets, webhooks
from permille.store.invoices import StoredInvoice
from permille.usecases import coupons, dunning, payment_requests
from permille.usecases.credit_notes import new_note
from permille.usecases.invoices import single
from permille.usecases.invoices.billed import billed_invoice
from permille.usecases.invoices.credit_notes import give_up, issue
from permille.usecases.wallets import transactions as prepaid


def void(
    conn: Connection[Any],
    invoice: StoredInvoice,
    *,
    parts: CreditSplit | None = None,
    now: datetime,
) -> StoredInvoice:
    """Void an invoice, and with `parts` issue a note for them and a void one for the rest.

    Coupons are given back. Without `parts` so is what wallets have paid, as far as credit notes have not given it
    already; what other credit notes have paid of it stays spent. Raises NotAllowed when it is not final, or not any more, and Invalid when the parts are more than what is left of it.
    """
    customers.lock(conn, invoice.customer_id)
    current = single.by_id(conn, invoice.organization_id, invoice.id)
    if current.status is not InvoiceStatus.FINALIZED:
        raise NotAllowed("not_voidable")
    billed = billed_invoice(conn, current)
    invoices.void(conn, [current.id], now=now)
    if parts is not None:
        _issue_notes(conn, current, billed, parts, now=now)
    coupons.give_back(conn, [current.id], now)
    prepaid.sale_voided(conn, current.id, now)
    if parts is None and billed.kept_cents >= 0:
        prepaid.give_back(conn, [current.id], now, at_most=billed.kept_cents)
    elif parts is None:
        give_up(conn, current.id, -billed.kept_cents, now=now)
    wallets.set_out_of_date(conn, [current.customer_id], at=now)
    webhooks.enqueue_of(conn, "invoice.voided", current.organization_id, [current.id], now=now)
    voided = invoices.invoices_by_ids(conn, [current.id])[current.id]
    if current.payment_status != PaymentStatus.SUCCEEDED:
        payment_requests.settle(conn, [voided], now)
        dunning.reset(conn, [voided], now)
    return voided


def _issue_notes(
    conn: Connection[Any], invoice: StoredInvoice, billed: BilledInvoice, parts: CreditSplit, *, now: datetime
) -> None:
    """Prepaid credits have no notes: they are in their wallet."""
    whole = 0 if billed.is_prepaid else note_on_all(billed).total_amount_cents
    if parts.total_cents > whole or parts.refund_cents > billed.refundable_cents:
        raise Invalid({"credit_refund_amount": ["total_amount_exceeds_invoice_amount"]})
    part = note_on_part(billed, parts.total_cents, whole_cents=whole)
    notes = [new_note(invoice, part, parts, now=now)] if parts != NO_PARTS else []
    rest = whole - parts.total_cents
    if rest:
        amounts = note_on_rest(billed, part, whole_cents=whole)
        notes.append(new_note(invoice, amounts, CreditSplit(credit_cents=rest), is_void=True, now=now))
    issue(conn, notes)


def lose_dispute(conn: Connection[Any], invoice: StoredInvoice, *, now: datetime) -> StoredInvoice:
    """Record that a dispute about the payment was lost. Raises NotAllowed for an invoice that is not final."""
    customers.lock(conn, invoice.customer_id)
    current = single.by_id(conn, invoice.organization_id, invoice.id)
    if current.status not in (InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED):
        raise NotAllowed("not_disputable")
    if current.payment_dispute_lost_at is None:
        invoices.lose_dispute(conn, current.id, now=now)
        webhooks.enqueue_of(
            conn, "invoice.payment_dispute_lost", current.organization_id, [current.id], now=now
        )
    return invoices.invoices_by_ids(conn, [current.id])[current.id]
