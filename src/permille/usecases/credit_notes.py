"""Credit notes by hand: what comes back of an invoice as credit, as a refund, or off what is due on it.

Source: semantics-billing.md sections 7.2 to 7.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotAllowed, NotFound
from permille.core.invoice.credit_note import CreditAmounts
from permille.core.invoice.crediting import (
    NO_PARTS,
    BilledInvoice,
    CreditSplit,
    evened,
    item_errors,
    most,
    note_on,
    split_errors,
)
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.payment import PaymentStatus
from permille.core.record import Record, field
from permille.core.wallet import Wallet
from permille.store import credit_notes, customers, fees as fee_store, wallet_transactions, wallets
from permille.store.credit_notes import CreditNote, NewCreditNote
from permille.store.invoices import StoredInvoice
from permille.usecases import top_ups
from permille.usecases.invoices import single
from permille.usecases.invoices.billed import billed_invoice
from permille.usecases.invoices.credit_notes import issue, note_to_issue


class CreditNoteRequest(Record, kw_only=True):
    """A note as somebody asks for it."""

    invoice_id: UUID | None
    items: Mapping[UUID, int]
    """Fee -> so much of it, in cents before taxes and coupons."""
    split: CreditSplit = NO_PARTS
    reason: str = "other"
    description: str | None = None
    metadata: Mapping[str, str | None] = field(default_factory=dict)


class CreditNoteEstimate(Record, kw_only=True):
    """What a note would come to, and the most that each of its parts could be."""

    invoice: StoredInvoice
    amounts: CreditAmounts
    most: CreditSplit


def estimate(conn: Connection[Any], organization_id: UUID, request: CreditNoteRequest) -> CreditNoteEstimate:
    """What a note with these items would come to; nothing is saved. Raises NotFound, NotAllowed, Invalid."""
    invoice, billed, amounts = _amounts(conn, organization_id, request)
    return CreditNoteEstimate(invoice=invoice, amounts=amounts, most=most(billed, amounts))


def create(
    conn: Connection[Any], organization_id: UUID, request: CreditNoteRequest, *, now: datetime
) -> CreditNote:
    """Issue a note. Raises NotFound, NotAllowed, Invalid."""
    customers.lock(conn, single.by_id(conn, organization_id, request.invoice_id).customer_id)
    invoice, billed, amounts = _amounts(conn, organization_id, request)
    errors = split_errors(billed, amounts, request.split)
    if errors:
        raise Invalid(errors)
    split = evened(billed, amounts, request.split)
    note = new_note(
        invoice,
        amounts,
        split,
        reason=request.reason,
        description=request.description,
        metadata=request.metadata,
        now=now,
    )
    (note_id,) = issue(conn, [note])
    if billed.is_prepaid and split.refund_cents:
        wallet = _wallet(conn, invoice)
        top_ups.void_refunded(conn, wallet, split.refund_cents, credit_note_id=note_id, now=now)
    return credit_notes.by_ids(conn, [note_id])[note_id]


def new_note(
    invoice: StoredInvoice,
    amounts: CreditAmounts,
    split: CreditSplit,
    *,
    now: datetime,
    reason: str = "other",
    description: str | None = None,
    metadata: Mapping[str, str | None] | None = None,
    is_void: bool = False,
    catalogue_version_id: UUID | None = None,
) -> NewCreditNote:
    """A note on an invoice, of today."""
    return note_to_issue(
        invoice,
        amounts,
        split,
        reason,
        timezone=invoice.timezone,
        at=now,
        description=description,
        metadata=metadata or {},
        is_void=is_void,
        catalogue_version_id=catalogue_version_id,
    )


def _amounts(
    conn: Connection[Any], organization_id: UUID, request: CreditNoteRequest
) -> tuple[StoredInvoice, BilledInvoice, CreditAmounts]:
    invoice = single.by_id(conn, organization_id, request.invoice_id)
    if invoice.status not in (InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED):
        raise NotFound("invoice")
    billed = billed_invoice(conn, invoice)
    if request.items.keys() - {each.fee.fee_id for each in billed.fees}:
        raise NotFound("fee")
    error = item_errors(billed, request.items)
    if billed.is_prepaid and sum(request.items.values()) > _wallet(conn, invoice).balance_cents:
        error = error or "higher_than_wallet_balance"
    if error:
        raise Invalid({"amount_cents": [error]})
    return invoice, billed, note_on(billed, request.items)


def _wallet(conn: Connection[Any], invoice: StoredInvoice) -> Wallet:
    """The wallet whose credits a paid invoice has sold. Raises NotAllowed when it is not paid, or the wallet has ended since.

    What was paid after the end has bought credits that nobody can use: that may be paid back.
    """
    rows = fee_store.of_invoices(conn, [invoice.id])[invoice.id]
    sold = wallet_transactions.by_ids(conn, [row.item_id for row in rows if row.item_id])
    found = wallets.by_ids(conn, {each.wallet_id for each in sold.values()})
    if invoice.payment_status is PaymentStatus.SUCCEEDED:
        for each in sold.values():
            wallet = found[each.wallet_id]
            if wallet.terminated_at is None or (each.settled_at and each.settled_at > wallet.terminated_at):
                return wallet
    raise NotAllowed("invalid_type_or_status")


def by_id(conn: Connection[Any], organization_id: UUID, note_id: UUID | None) -> CreditNote:
    """The organization's note. Raises NotFound."""
    found = credit_notes.by_ids(conn, [note_id]).get(note_id) if note_id else None
    if found is None or found.organization_id != organization_id:
        raise NotFound("credit_note")
    return found


def to_change(conn: Connection[Any], organization_id: UUID, note_id: UUID | None) -> CreditNote:
    """The note, locked with its customer, whose invoices it may pay. Raises NotFound."""
    note = by_id(conn, organization_id, note_id)
    customers.lock(conn, note.customer_id)
    return credit_notes.for_update(conn, note.id)


def void(conn: Connection[Any], note: CreditNote, *, now: datetime) -> CreditNote:
    """Give up the credit that is left. Raises NotAllowed where there is none."""
    if not note.balance_amount_cents:
        raise NotAllowed("no_voidable_amount")
    credit_notes.give_up(conn, {note.id: note.balance_amount_cents}, now=now)
    return credit_notes.for_update(conn, note.id)


def update(
    conn: Connection[Any],
    note: CreditNote,
    *,
    refund_status: str | None,
    metadata: Mapping[str, str | None] | None,
    now: datetime,
) -> CreditNote:
    """Say whether the refund was paid, and replace what its owner keeps with it; None leaves each as it is.

    Raises Invalid where there is no refund.
    """
    if refund_status is not None and not note.refund_amount_cents:
        raise Invalid({"refund_status": ["value_is_invalid"]})
    if refund_status is not None:
        credit_notes.set_refund_status(conn, note.id, refund_status, now=now)
    if metadata is not None:
        credit_notes.set_metadata(conn, note.id, metadata, now=now)
    return credit_notes.for_update(conn, note.id)
