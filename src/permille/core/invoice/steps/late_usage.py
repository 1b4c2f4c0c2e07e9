"""Late usage that was decided to be billed."""

from __future__ import annotations

from permille.core.invoice.draft import InvoiceDraft, Line, changed
from permille.core.invoice.facts import Facts


def late_usage(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Bill late usage that the invoice, or one of its subscriptions, takes along, by the plan of its time."""
    if not facts.late_usage:
        return draft
    takers = (draft.id, *(billing.subscription.id for billing in draft.billings))
    found = [late for taker in takers for late in facts.late_usage.get(taker, ())]
    if not found:
        return draft
    billed = draft.adding(Line(fee, late.plan) for late in found for fee in late.fees)
    return changed(billed, late_usage_ids=tuple(late.late_usage_id for late in found))
