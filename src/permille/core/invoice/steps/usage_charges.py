"""Usage that is billed in arrears."""

from __future__ import annotations

from permille.core.invoice.billing import SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, Line
from permille.core.invoice.facts import Facts
from permille.core.rating.fee import Fee
from permille.core.rating.rate import rate
from permille.core.rating.rounding import Rounding


def usage_charges(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Price the usage of each subscription's period by the charges of its plan."""
    lines = [line for billing in draft.billings for line in _lines(billing, facts)]
    if draft.kind is InvoiceKind.PROGRESSIVE:
        lines = [line for line in lines if is_billed_at_thresholds(line.fee)]
    return draft.adding(lines)


def is_billed_at_thresholds(fee: Fee) -> bool:
    """Whether usage comes to anything: if not, or if it has no price yet, it waits for the invoice at the period's end.

    The parts of a rounded sum do.
    """
    is_part = fee.precise_amount_cents if fee.rounding is Rounding.PER_CHARGE else fee.amount_cents
    return bool(is_part) and not fee.is_held


def _lines(billing: SubscriptionBilling, facts: Facts) -> list[Line]:
    lines: list[Line] = []
    period, charges = billing.usage_period, facts.charges_in_arrears(billing)
    if period is None or not charges:
        return lines
    used = facts.usage.get(billing.subscription.id, {})
    rated = billing.rated(period)
    for charge, compiled in charges:
        if charge.metric.id in billing.left_to_next_plan and not charge.prorated:
            continue
        has_minimum = compiled.min_amount_cents > 0
        fees = rate(
            compiled,
            used.get(charge.metric.code, ()),
            subscription_id=billing.subscription.id,
            rated=rated,
            with_idle=has_minimum,
        )
        lines += [Line(fee, billing.plan) for fee in fees if has_minimum or compiled.is_billed(fee)]
    return lines
