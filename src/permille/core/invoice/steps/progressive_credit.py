"""What invoices at thresholds have billed of a period is taken off the invoice that bills it again."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from permille.core.invoice.draft import InvoiceDraft, with_same_fees
from permille.core.invoice.facts import Facts
from permille.core.invoice.progressive import BilledBefore, ProgressiveCredit, key_of_fee, spread_credit
from permille.core.record import replace


def progressive_credit(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Take off what was billed of each subscription's period before, drafts included, and spread it over the fees."""
    if not facts.billed_before:
        return draft
    for subscription_id in _billed(draft, facts):
        before = facts.billed_before.get(subscription_id)
        if before is not None and before.left_cents > 0:
            draft = _less(draft, subscription_id, before)
    return draft


def _billed(draft: InvoiceDraft, facts: Facts) -> Iterable[UUID]:
    """The subscriptions whose periods it bills: an invoice that replaces another one has none of its own."""
    if draft.replaces is not None:
        return facts.billed_before
    return [billing.subscription.id for billing in draft.billings]


def _less(draft: InvoiceDraft, subscription_id: UUID, before: BilledBefore) -> InvoiceDraft:
    charges = {charge_id for charge_id, _, _ in before.fees}
    places = [
        place
        for place, line in enumerate(draft.lines)
        if line.fee.subscription_id == subscription_id
        and line.fee.charge_id in charges
        and line.fee.late_usage_id is None
    ]
    matched = [draft.lines[place] for place in places]
    amount = min(before.left_cents, sum(line.fee.amount_cents for line in matched))
    spread = spread_credit(
        amount,
        [
            (line.fee.amount_cents, 0 if line.fee.is_true_up else before.fees.get(key_of_fee(line.fee), 0))
            for line in matched
        ],
    )
    lines = list(draft.lines)
    for place, line, share in zip(places, matched, spread, strict=True):
        lines[place] = replace(line, discount_cents=line.discount_cents + share)
    credit = ProgressiveCredit(
        subscription_id=subscription_id,
        invoice_id=before.invoice_id,
        amount_cents=amount,
        excess_cents=before.left_cents - amount,
    )
    return with_same_fees(draft, lines, progressive_credits=(*draft.progressive_credits, credit))
