"""Projection: what the running period would come to if its usage went on as it has so far.

By whole local days, today included. Source: semantics-metering.md section 6.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from permille.core.money import ZERO, exact
from permille.core.period import INSTANT, Period, local_date
from permille.core.rating.charge import CompiledCharge
from permille.core.rating.fee import Fee
from permille.core.rating.models import Quantity, model_of
from permille.core.rating.rate import round_fees
from permille.core.record import Record, replace

_TWO_DECIMALS = Decimal("0.01")


class Projection(Record):
    """Units and cents at the period's end."""

    units: Decimal
    amount_cents: int
    in_unit_cents: int = 0
    """In hundredths of the pricing unit, where the charge has one."""


def elapsed_share(now: datetime, period: Period, timezone: str) -> Fraction:
    """The share of a period's local days that have begun: 0 before the period, 1 from its end on."""
    if now < period.from_:
        return Fraction(0)
    if now >= period.to:
        return Fraction(1)
    first = local_date(period.from_, timezone)
    begun = (local_date(now, timezone) - first).days + 1
    return Fraction(begun, (local_date(period.to - INSTANT, timezone) - first).days + 1)


def project(charge: CompiledCharge, fee: Fee, *, recurring: bool, elapsed: Fraction) -> Projection:
    """What one of the charge's fees of the running period comes to at its end.

    Recurring units stay as they are. Usage that no filter of a charge wants is not projected, as in Lago.
    """
    return project_all(charge, [fee], recurring=recurring, elapsed=elapsed)[0]


def project_all(
    charge: CompiledCharge, fees: Sequence[Fee], *, recurring: bool, elapsed: Fraction
) -> list[Projection]:
    """What each of the charge's fees comes to, rounded as on the bill."""
    found = [_projected(charge, fee, recurring=recurring, elapsed=elapsed) for fee in fees]
    return [
        Projection(fee.units, fee.amount_cents, fee.in_unit.amounts.amount_cents if fee.in_unit else 0)
        for fee in round_fees(charge, found)
    ]


def _projected(charge: CompiledCharge, fee: Fee, *, recurring: bool, elapsed: Fraction) -> Fee:
    has_filters = len(charge.buckets) > 1
    with exact():
        if not elapsed or (has_filters and fee.charge_filter_id is None):
            return replace(fee.owing(charge.owed(ZERO, ZERO)), units=ZERO)
        if recurring:
            return fee
        units = (fee.units * elapsed.denominator / elapsed.numerator).quantize(_TWO_DECIMALS)
        amount = max(_amount(charge, fee, units, elapsed), ZERO)
        return replace(fee.owing(charge.owed(amount, ZERO)), units=units)


def _amount(charge: CompiledCharge, fee: Fee, units: Decimal, elapsed: Fraction) -> Decimal:
    """In major units of what the charge is priced in."""
    bucket = next(each for each in charge.buckets if each.charge_filter_id == fee.charge_filter_id)
    if not model_of(bucket.model).is_of_units:
        amount = fee.priced_cents[1] / charge.priced_subunits
        return amount * elapsed.denominator / elapsed.numerator
    if not units:
        return ZERO
    return bucket.pricer(Quantity(units=units, subunits=charge.subunits)).amount
