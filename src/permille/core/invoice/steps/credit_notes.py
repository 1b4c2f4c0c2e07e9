"""Credit notes pay an invoice."""

from __future__ import annotations

from permille.core.invoice.credit_note import spend
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus, changed
from permille.core.invoice.facts import Facts
from permille.core.record import replace


def credit_notes(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Pay what is owed from the balances of the customer's credit notes; a draft is paid when it is final."""
    known = facts.balances.get((draft.customer.id, draft.currency)) if facts.balances else None
    if not known or draft.is_paid or draft.status is InvoiceStatus.DRAFT:
        return draft
    return changed(draft, credits=tuple(spend(known, draft.sub_total_including_taxes_amount_cents)))


def after_credit_notes(draft: InvoiceDraft, facts: Facts) -> Facts:
    """What the notes have left for the invoices that follow in the batch."""
    if not draft.credits:
        return facts
    place = draft.customer.id, draft.currency
    paid = {each.credit_note_id: each.amount_cents for each in draft.credits}
    left = [(note_id, balance - paid.get(note_id, 0)) for note_id, balance in facts.balances[place]]
    return replace(facts, balances={**facts.balances, place: left})
