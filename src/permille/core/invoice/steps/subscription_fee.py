"""The plan's own fee."""

from __future__ import annotations

from permille.core.invoice.draft import InvoiceDraft, Line
from permille.core.invoice.facts import Facts


def subscription_fee(draft: InvoiceDraft, _facts: Facts) -> InvoiceDraft:
    """Bill the plan's own fee of each subscription for which it is due."""
    return draft.adding(
        Line(billing.planned.fee, billing.plan)
        for billing in draft.billings
        if billing.planned.fee is not None
    )
