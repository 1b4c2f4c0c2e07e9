"""Late usage that was decided to be billed."""

from __future__ import annotations

from permille.core.contract.plan import Plan
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import InvoiceDraft, Line, changed
from permille.core.invoice.facts import Facts
from permille.core.rating.fee import Fee


def late_usage(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Bill late usage that the invoice, or one of its subscriptions, takes along, by the plan of its time."""
    if not facts.late_usage:
        return draft
    takers = (draft.id, *(billing.subscription.id for billing in draft.billings))
    found = [late for taker in takers for late in facts.late_usage.get(taker, ())]
    if not found:
        return draft
    billed = draft.adding(_line(fee, late.plan) for late in found for fee in late.fees)
    return changed(billed, late_usage_ids=tuple(late.late_usage_id for late in found))


def _line(fee: Fee, plan: Plan) -> Line:
    """What is less of a minimum commitment has the taxes of that."""
    agreed = plan.minimum_commitment if fee.kind is FeeKind.COMMITMENT else None
    return Line(fee, plan, own_taxes=agreed.taxes if agreed else ())
