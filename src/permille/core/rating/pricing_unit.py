"""Pricing units: an organization's own currencies, like credits, that charges are priced in and that convert to money.

A charge's model yields an amount in the unit, which always has two decimals. That amount is rounded to them, then
converted at the charge's rate and rounded to the plan's currency. Source: semantics-metering.md section 5.14.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from permille.core.money import LineAmounts, exact, line_amounts
from permille.core.record import Record

PLACES = 2
SUBUNITS: int = 10**PLACES


class PricingUnit(Record, kw_only=True):
    """What an organization prices in. `short_name` is shown in place of a currency's sign."""

    id: UUID
    code: str
    name: str
    short_name: str
    description: str | None
    created_at: datetime


class AppliedPricingUnit(Record, kw_only=True):
    """The unit of a charge. One of it is worth `conversion_rate` of the plan's currency, in major units; above 0."""

    unit: PricingUnit
    conversion_rate: Decimal


class InUnit(NamedTuple):
    """What a line comes to in a pricing unit, and by which terms it was converted."""

    applied: AppliedPricingUnit
    amounts: LineAmounts
    """In hundredths of the unit."""


class Owed(NamedTuple):
    """The money of a line; of one that is priced in a unit, also what it was converted from."""

    money: LineAmounts
    in_unit: InUnit | None


def owed(amount: Decimal, unit_amount: Decimal, *, per_unit: int, applied: AppliedPricingUnit | None) -> Owed:
    """What a line states. Call under exact().

    Both amounts are in major units of what the charge is priced in, `per_unit` is how many smallest units the
    currency has. The money is made of the rounded amount in units, the price of one unit of the exact one.
    """
    if applied is None:
        return Owed(line_amounts(amount, unit_amount, per_unit), None)
    own = line_amounts(amount, unit_amount, SUBUNITS)
    return Owed(
        converted(own.amount_cents, unit_amount, per_unit=per_unit, applied=applied), InUnit(applied, own)
    )


def converted(cents: int, unit_amount: Decimal, *, per_unit: int, applied: AppliedPricingUnit) -> LineAmounts:
    """The money of whole hundredths of a pricing unit. `unit_amount` is in major units of it."""
    with exact():
        worth = cents * applied.conversion_rate / SUBUNITS
        return line_amounts(worth, unit_amount * applied.conversion_rate, per_unit)
