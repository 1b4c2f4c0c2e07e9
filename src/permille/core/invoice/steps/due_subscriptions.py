"""Subscriptions of which nothing is due are on no invoice."""

from __future__ import annotations

from permille.core.invoice.draft import InvoiceDraft, changed
from permille.core.invoice.facts import Facts


def due_subscriptions(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Leave out subscriptions without a period to bill and without lines, unless the draft is there already."""
    if draft.dates is not None or not any(billing.planned.is_empty for billing in draft.billings):
        return draft
    billed = {line.fee.subscription_id for line in draft.lines if line.fee.late_usage_id is None}
    kept = tuple(
        billing
        for billing in draft.billings
        if not billing.planned.is_empty
        or billing.subscription.id in billed
        or billing.subscription.id in facts.late_usage
    )
    return changed(draft, billings=kept)
