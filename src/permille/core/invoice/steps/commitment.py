"""Minimum commitments: what a plan's period lacks of the amount that was agreed."""

from __future__ import annotations

from collections.abc import Iterator

from permille.core.invoice.billing import SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft, Line
from permille.core.invoice.facts import Facts
from permille.core.rating.commitment import COUNTED, CommittedPeriod, commitment_fee


def commitment(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Bill what the periods that end lack, all fees counted that are of them, on this invoice and on earlier ones."""
    return draft.adding(line for billing in draft.billings for line in _lines(draft, billing, facts))


def _lines(draft: InvoiceDraft, billing: SubscriptionBilling, facts: Facts) -> Iterator[Line]:
    agreed = billing.plan.minimum_commitment
    period = billing.committed_period if agreed else None
    if agreed is None or period is None:
        return
    committed = period.share(agreed.amount_cents, billing.facts.timezone)
    earlier = facts.counted_cents.get(billing.subscription.id, 0)
    missing = committed - earlier - _counted(draft, billing, period)
    if missing > 0:
        fee = commitment_fee(
            billing.subscription.id,
            missing_cents=missing,
            period=period.part,
            currency=draft.currency,
            invoice_display_name=agreed.invoice_display_name,
        )
        yield Line(fee, billing.plan, own_taxes=agreed.taxes)


def _counted(draft: InvoiceDraft, billing: SubscriptionBilling, period: CommittedPeriod) -> int:
    own_id, found = billing.subscription.id, 0
    from_ = to = None
    counts = False
    for fee in [line.fee for line in draft.lines]:
        is_own = fee.subscription_id is own_id or fee.subscription_id == own_id
        if is_own and fee.kind in COUNTED:
            if fee.from_ is not from_ or fee.to is not to:  # mostly they have one period
                from_, to = fee.from_, fee.to
                counts = period.counts(from_, to)
            if counts:
                found += fee.amount_cents
    return found
