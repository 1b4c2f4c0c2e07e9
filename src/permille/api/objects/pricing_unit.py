"""Pricing units: what charges are priced in instead of money, e.g. credits."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    Description,
    Id,
    Input,
    Name,
    says,
    text_of_number,
)

ConversionRate = Annotated[str, text_of_number("What one unit is in the plan's currency.", example="0.01")]


class PricingUnit(Answer):
    """A unit that charges can be priced in."""

    lago_id: Id
    code: Code
    name: Name
    short_name: Annotated[str, says("Up to 3 characters, shown beside amounts.", example="CR")]
    description: Description
    created_at: CreatedAt


class AppliedPricingUnit(Answer):
    """The unit that a charge is priced in."""

    code: Annotated[str, says("Code of the pricing unit.")]
    conversion_rate: ConversionRate


class UsageInPricingUnit(Answer, kw_only=True):
    """What usage comes to in the charge's pricing unit."""

    amount_cents: Annotated[int, says("Hundredths of the unit.")]
    short_name: Annotated[str, says("The unit's short name.")]
    conversion_rate: ConversionRate
    projected_amount_cents: Annotated[
        int | UnsetType, says("Hundredths of the unit at the period's end; only in projected usage.")
    ] = UNSET


class PricingUnitInput(Input):
    """Fields of a pricing unit."""

    code: Code
    name: Name
    short_name: Annotated[str, says("Up to 3 characters, shown beside amounts.", example="CR")]
    description: Description
