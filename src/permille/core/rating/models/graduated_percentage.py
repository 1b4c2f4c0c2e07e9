"""graduated_percentage: each tier takes a percentage of the units in it (semantics-metering.md section 5.5).

As in Lago the tiers are always read as written for whole units (0 to 10, 11 to 20).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from permille.core.metering.aggregations import LATEST
from permille.core.money import ZERO, decimal_text
from permille.core.rating.models.graduated import Tier, are_free, read_tiers
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, per_unit, tier_errors

KEYS = ("graduated_percentage_ranges",)
DEFAULTS: dict[str, Any] = {
    "graduated_percentage_ranges": [{"from_value": 0, "to_value": None, "rate": "0", "flat_amount": "0"}]
}


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its tiers."""
    tiers = read_tiers(properties["graduated_percentage_ranges"], rate="rate")

    def price(quantity: Quantity) -> Price:
        total, lines = ZERO, []
        for tier in tiers:
            units = tier.units_of(quantity.units, tiers_meet=False)
            line_amount = units * tier.rate / 100
            total += line_amount + tier.flat_amount
            lines.append(_line(tier, units, line_amount))
            if tier.is_last_of(quantity.units):
                break
        return Price(total, per_unit(total, quantity.whole_units), {"graduated_percentage_ranges": lines})

    return price


def _line(tier: Tier, units: Decimal, amount: Decimal) -> dict[str, Any]:
    return {
        "from_value": tier.sent.get("from_value"),
        "to_value": tier.sent.get("to_value"),
        "flat_unit_amount": decimal_text(tier.flat_amount),
        "rate": decimal_text(tier.rate),
        "units": decimal_text(units),
        "per_unit_total_amount": decimal_text(amount),
        "total_with_flat_amount": decimal_text(amount + tier.flat_amount),
    }


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether no usage costs anything."""
    return are_free(read_tiers(properties["graduated_percentage_ranges"], rate="rate"))


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for properties that cannot be."""
    return tier_errors(
        properties.get("graduated_percentage_ranges"),
        key="graduated_percentage_ranges",
        amounts={"rate": "invalid_rate", "flat_amount": "invalid_amount"},
        gap=0,
    )


MODEL = Model(
    keys=KEYS,
    defaults=DEFAULTS,
    pricer=pricer,
    is_free=is_free,
    errors=errors,
    refuses=LATEST,
    details_in_advance=True,
)
