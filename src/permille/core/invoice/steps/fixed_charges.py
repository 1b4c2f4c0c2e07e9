"""Fixed charges: those in arrears for the period that has ended, those in advance for the one that begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from uuid import UUID

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.invoice.billing import SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft, Line
from permille.core.invoice.facts import Facts, PaidInAdvance
from permille.core.rating.fee import Fee
from permille.core.rating.fixed_charge import (
    FixedPeriod,
    fee_in_advance,
    fee_in_arrears,
    less_what_was_paid,
    paid_share,
    units_paid_at,
)


def fixed_charges(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Bill the units of each subscription's fixed charges, where there are any."""
    return draft.adding(
        line
        for billing in draft.billings
        if billing.plan.fixed_charges
        for line in _lines(draft, billing, facts)
    )


def _lines(draft: InvoiceDraft, billing: SubscriptionBilling, facts: Facts) -> Iterator[Line]:
    for charge in billing.plan.fixed_charges:
        fee = _fee(draft, billing, charge, facts)
        if fee is not None and (fee.units or fee.amount_cents):
            yield Line(fee, billing.plan, own_taxes=charge.taxes)


def _fee(draft: InvoiceDraft, billing: SubscriptionBilling, charge: FixedCharge, facts: Facts) -> Fee | None:
    periods, price = billing.planned.periods, charge.price(draft.currency)
    part = periods.fixed_charges_in_advance if charge.pay_in_advance else periods.fixed_charges
    if part is None:
        return None
    period, owner = billing.fixed_period(part), billing.subscription.id
    started_at = billing.subscription.started_at or billing.at
    changes = charge.changes(facts.fixed_units.get(owner, {}), since=min(started_at, billing.at))
    if not charge.pay_in_advance:
        return fee_in_arrears(price, changes, period, subscription_id=owner)
    units = units_paid_at(changes, max(billing.at, part.from_))
    return paid_fee(charge, units, period, facts.paid_before, currency=draft.currency, owner=owner)


def paid_fee(
    charge: FixedCharge,
    units: Decimal,
    period: FixedPeriod,
    paid_before: Mapping[tuple[UUID, UUID], PaidInAdvance],
    *,
    currency: str,
    owner: UUID,
) -> Fee:
    """The fee in advance of the subscription `owner`, less what was paid for the same days under the plan before."""
    fee = fee_in_advance(charge.price(currency), units, period, subscription_id=owner)
    paid = paid_before.get((owner, charge.add_on.id)) if charge.prorated else None
    if paid is None:
        return fee
    cents = paid_share(paid.amount_cents, days=period.days, of_days=paid.days)
    return less_what_was_paid(fee, paid_cents=cents, currency=currency)
