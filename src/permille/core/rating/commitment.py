"""Minimum commitments: the fee for what a plan's period lacks of what was agreed. semantics-billing.md section 6.2."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from permille.core.fee_kind import FeeKind
from permille.core.money import exact, round_cents, subunits
from permille.core.period import Period, days_in
from permille.core.rating.fee import Fee, fee_like
from permille.core.rating.filters import Id
from permille.core.record import Record, replace

COUNTED = (FeeKind.SUBSCRIPTION, FeeKind.CHARGE, FeeKind.FIXED_CHARGE)
"""The kinds of fees that count towards a commitment, before coupons and taxes."""


class CommittedPeriod(Record, kw_only=True):
    """A period of the plan that ends: the whole one, and the part that was subscribed, to which an amount is prorated."""

    whole: Period
    part: Period

    def counts(self, from_: datetime, to: datetime) -> bool:
        """Whether a fee for these instants is of this period: by its middle, as clocks and timezones shift its ends."""
        if from_ >= self.whole.from_ and to <= self.whole.to and from_ < to:
            return True
        return from_ + (to - from_) / 2 in self.whole

    def share(self, amount_cents: int, timezone: str) -> int:
        """The commitment of the part, by its days."""
        if self.part == self.whole:
            return amount_cents
        with exact():
            days = Decimal(amount_cents * days_in(self.part, timezone))
            return round_cents(days / days_in(self.whole, timezone))


def commitment_fee(
    subscription_id: Id,
    *,
    missing_cents: int,
    period: Period,
    currency: str,
    invoice_display_name: str | None,
) -> Fee:
    """The fee for what is missing."""
    alike = fee_like(FeeKind.COMMITMENT, name=invoice_display_name, units=Decimal(1), period=period)
    missing = Decimal(missing_cents)
    with exact():
        unit_amount = missing / subunits(currency)
    return replace(
        alike,
        subscription_id=subscription_id,
        amount_cents=missing_cents,
        precise_amount_cents=missing,
        unit_amount_cents=missing_cents,
        precise_unit_amount=unit_amount,
    )
