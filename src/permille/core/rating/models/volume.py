"""volume: the one tier that the total falls in prices all units (semantics-metering.md section 5.8).

The total may cost less than a smaller one would: 101 units at 1.00 instead of 100 at 2.00.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from permille.core.money import decimal_text, precise
from permille.core.rating.models.graduated import Tier, are_free, read_tiers
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, per_unit, tier_errors

KEYS = ("volume_ranges",)
DEFAULTS: dict[str, Any] = {
    "volume_ranges": [{"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}]
}


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its tiers, by where they start."""
    read = read_tiers(properties["volume_ranges"], rate="per_unit_amount")
    tiers = sorted(read, key=lambda tier: tier.from_value)

    def price(quantity: Quantity) -> Price:
        whole_units = quantity.whole_units
        tier = _tier_of(whole_units, tiers)
        units_amount = quantity.units * tier.rate
        amount = units_amount + tier.flat_amount
        details = {
            "flat_unit_amount": decimal_text(tier.flat_amount),
            "per_unit_amount": decimal_text(precise(per_unit(units_amount, whole_units))),
            "per_unit_total_amount": decimal_text(units_amount),
        }
        return Price(amount, per_unit(amount, whole_units), details)

    return price


def _tier_of(units: Decimal, tiers: Sequence[Tier]) -> Tier:
    """The tier of a total; one that lies between two tiers is in the higher one, one below all in the first."""
    return next(tier for tier in tiers if tier.is_last_of(units))


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether no usage costs anything."""
    return are_free(read_tiers(properties["volume_ranges"], rate="per_unit_amount"))


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for properties that cannot be."""
    amounts = {"per_unit_amount": "invalid_amount", "flat_amount": "invalid_amount"}
    return tier_errors(properties.get("volume_ranges"), key="volume_ranges", amounts=amounts, gap=1)


MODEL = Model(
    keys=KEYS,
    defaults=DEFAULTS,
    pricer=pricer,
    is_free=is_free,
    errors=errors,
    in_advance=False,
    prorated=True,
    is_of_units=True,
)
