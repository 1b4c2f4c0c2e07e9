"""Minimum charges: a true-up fee where the usage of a charge comes to less."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from permille.core.invoice.billing import SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft, Line, changed
from permille.core.invoice.facts import Facts
from permille.core.rating.charge import CompiledCharge
from permille.core.rating.filters import Id
from permille.core.rating.minimum_charge import true_up_fee


def minimum_charge(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Add true-up fees behind the fees of charges that come to less than their minimum, and drop idle fees of these."""
    minimums: dict[tuple[Id, Id | None], tuple[SubscriptionBilling, CompiledCharge]] = {
        (billing.subscription.id, compiled.charge_id): (billing, compiled)
        for billing in draft.billings
        for _, compiled in facts.charges_in_arrears(billing)
        if compiled.min_amount_cents
    }
    if not minimums:
        return draft
    lines: list[Line] = []
    for key, found in groupby(draft.lines, key=lambda line: (line.fee.subscription_id, line.fee.charge_id)):
        own = list(found)
        lines += _trued_up(*minimums[key], own) if key in minimums else own
    return changed(draft, lines=tuple(lines))


def _trued_up(billing: SubscriptionBilling, compiled: CompiledCharge, lines: Sequence[Line]) -> list[Line]:
    period = billing.usage_period
    assert period is not None, "a charge in arrears has a period"
    fees = [line.fee for line in lines]
    true_up = true_up_fee(compiled, fees, rated=billing.rated(period))
    if true_up is None:
        return [line for line in lines if compiled.is_billed(line.fee)]
    parent = next(fee for fee in fees if fee.charge_filter_id is None)
    shown = [line for line in lines if line.fee is parent or compiled.is_billed(line.fee)]
    return [*shown, Line(true_up, billing.plan)]
