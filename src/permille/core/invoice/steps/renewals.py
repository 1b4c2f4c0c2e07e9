"""Renewals: recurring units carried over are paid in advance for the period that begins."""

from __future__ import annotations

from collections.abc import Iterator

from permille.core.invoice.billing import SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft, Line
from permille.core.invoice.facts import Facts
from permille.core.rating.rate import rate


def renewals(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Bill the units carried over, by the charges that go on invoices."""
    return draft.adding(line for each in draft.billings for line in _lines(each, facts, invoiceable=True))


def renewals_alone(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Bill the units carried over, by the charges whose fees go on no invoice."""
    return draft.adding(line for each in draft.billings for line in _lines(each, facts, invoiceable=False))


def _lines(billing: SubscriptionBilling, facts: Facts, *, invoiceable: bool) -> Iterator[Line]:
    charges = facts.renewed_charges(billing)
    period = billing.begun_period if charges else None
    if period is None:
        return
    used = facts.carried_over.get(billing.subscription.id, {})
    for charge, compiled in charges:
        if charge.invoiceable is not invoiceable:
            continue
        fees = rate(
            compiled,
            used.get(charge.metric.code, ()),
            subscription_id=billing.subscription.id,
            rated=billing.rated(period),
            with_idle=False,
        )
        yield from (Line(fee, billing.plan) for fee in fees)
