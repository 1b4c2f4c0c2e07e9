"""What invoices at thresholds have billed beyond what their period came to is given back by credit notes.

Source: semantics-billing.md section 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.invoice.credit_note import Item
from permille.core.invoice.crediting import BilledInvoice, CreditSplit, items_worth, note_of, worth_of
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus
from permille.core.record import Record
from permille.store import invoices, progressive
from permille.store.credit_notes import NewCreditNote
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices.billed import billed_invoices
from permille.usecases.invoices.credit_notes import issue, note_to_issue


class _Excess(Record, kw_only=True):
    """So many cents, before taxes, that an invoice at a threshold and those before it have billed too much."""

    draft: InvoiceDraft
    invoice_id: UUID
    cents: int


def has_excess(draft: InvoiceDraft) -> bool:
    """Whether invoices at thresholds have billed more than it could take off."""
    return any(credit.excess_cents for credit in draft.progressive_credits)


def credit_excess(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Credit what final invoices of this batch could not take off, on the invoices that billed it; set-based.

    An invoice at a threshold has billed what the one before it had not: it gives back that, and the one before the rest.
    """
    owed = [
        _Excess(draft=draft, invoice_id=credit.invoice_id, cents=credit.excess_cents)
        for draft in drafts
        if draft.status is not InvoiceStatus.DRAFT
        for credit in draft.progressive_credits
        if credit.excess_cents
    ]
    while owed:
        ids = [each.invoice_id for each in owed]
        billed_on = invoices.invoices_by_ids(conn, ids)
        billed = billed_invoices(conn, billed_on.values())
        items = [items_worth(billed[each.invoice_id].fees, each.cents) for each in owed]
        notes = [
            _note(each.draft, billed_on[each.invoice_id], billed[each.invoice_id], own)
            for each, own in zip(owed, items, strict=True)
            if own and billed_on[each.invoice_id].status is InvoiceStatus.FINALIZED
        ]
        issue(conn, [note for note in notes if note.amounts.total_amount_cents])
        before = progressive.credits_of(conn, ids)
        owed = [
            _Excess(draft=each.draft, invoice_id=earlier.item_id, cents=rest)
            for each, own in zip(owed, items, strict=True)
            for earlier in before.get(each.invoice_id, ())
            if (rest := each.cents - worth_of(own)) > 0
        ]


def _note(
    draft: InvoiceDraft, invoice: StoredInvoice, billed: BilledInvoice, items: Sequence[Item]
) -> NewCreditNote:
    amounts = note_of(billed, items)
    split = CreditSplit(credit_cents=amounts.total_amount_cents)
    return note_to_issue(invoice, amounts, split, "other", timezone=draft.timezone, at=draft.made_at)
