"""Void a final invoice: nothing of it is due any more, and what paid for it is given back. It keeps its number.

Source: semantics-billing.md sections 4.8 and 4.10.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotAllowed
from permille.core.invoice.crediting import (
    NO_PARTS,
    CreditSplit,
    creditable_cents,
    note_on_part,
    note_on_rest,
)
from permille.core.invoice.draft import InvoiceStatus
from permille.core.record import Record
from permille.store import customers, invoices, wallets, webhooks
from permille.store.invoices import StoredInvoice
from permille.usecases import coupons
from permille.usecases.credit_notes import new_note
from permille.usecases.invoices import single
from permille.usecases.invoices.billed import billed_invoice
from permille.usecases.invoices.credit_notes import issue
from permille.usecases.wallets import transactions as prepaid


class GivenBack(Record, kw_only=True):
    """What invoices took and get back when they are voided."""

    give_back: Callable[[Connection[Any], Collection[UUID], datetime], None]
    """Give back what these invoices took, as of an instant; set-based."""
    also_with_note: bool
    """Whether it comes back although credit notes are issued for what the invoices came to."""


GIVEN_BACK: tuple[GivenBack, ...] = (
    GivenBack(give_back=coupons.give_back, also_with_note=True),
    GivenBack(give_back=prepaid.give_back, also_with_note=False),
)
"""In the order in which it is given back. What credit notes paid of an invoice stays spent."""


def void(
    conn: Connection[Any],
    invoice: StoredInvoice,
    *,
    parts: CreditSplit | None = None,
    now: datetime,
) -> StoredInvoice:
    """Void an invoice, and with `parts` issue a note for them and a void one for the rest.

    Raises NotAllowed when it is not final, or not any more, and Invalid when the parts are more than what is left of it.
    """
    customers.lock(conn, invoice.customer_id)
    current = single.by_id(conn, invoice.organization_id, invoice.id)
    if current.status is not InvoiceStatus.FINALIZED:
        raise NotAllowed("not_voidable")
    if parts is not None:
        _issue_notes(conn, current, parts, now=now)
    for each in GIVEN_BACK:
        if parts is None or each.also_with_note:
            each.give_back(conn, [current.id], now)
    invoices.void(conn, [current.id], now=now)
    wallets.set_out_of_date(conn, [current.customer_id], at=now)
    webhooks.enqueue_of(conn, "invoice.voided", current.organization_id, [current.id], now=now)
    return invoices.invoices_by_ids(conn, [current.id])[current.id]


def _issue_notes(conn: Connection[Any], invoice: StoredInvoice, parts: CreditSplit, *, now: datetime) -> None:
    billed = billed_invoice(conn, invoice)
    whole = creditable_cents(billed)
    if parts.total_cents > whole or parts.refund_cents > billed.refundable_cents:
        raise Invalid({"credit_refund_amount": ["total_amount_exceeds_invoice_amount"]})
    notes = []
    if parts != NO_PARTS:
        notes.append(new_note(invoice, note_on_part(billed, parts.total_cents), parts, now=now))
    rest = whole - parts.total_cents
    if rest:
        amounts = note_on_rest(billed, parts.total_cents)
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
