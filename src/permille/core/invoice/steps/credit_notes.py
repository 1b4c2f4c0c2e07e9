"""Credit notes pay an invoice."""

from __future__ import annotations

from permille.core.invoice.credit_note import spend
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus, changed
from permille.core.invoice.facts import Facts


def credit_notes(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Pay what is owed from the balances of the customer's credit notes; a draft is paid when it is final."""
    known = facts.balances.get((draft.customer.id, draft.currency))
    if not known or draft.is_paid or draft.status is InvoiceStatus.DRAFT:
        return draft
    return changed(draft, credits=tuple(spend(known, draft.sub_total_including_taxes_amount_cents)))
