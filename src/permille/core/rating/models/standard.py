"""standard: units times amount (semantics-metering.md section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.core.rating.models.price import (
    Model,
    Price,
    Pricer,
    Quantity,
    codes,
    is_amount,
    number,
    per_unit,
)

KEYS = ("amount",)
DEFAULTS: dict[str, Any] = {"amount": "0"}


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its amount per unit."""
    unit_amount = number(properties.get("amount"))

    def price(quantity: Quantity) -> Price:
        amount = quantity.units * unit_amount
        if quantity.full_units is None:
            return Price(amount, unit_amount if quantity.units else quantity.units, {})
        return Price(amount, per_unit(amount, quantity.full_units), {})

    return price


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether no usage costs anything."""
    return not number(properties.get("amount"))


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for properties that cannot be."""
    return codes([("invalid_amount", is_amount(properties.get("amount")))])


MODEL = Model(
    keys=KEYS,
    defaults=DEFAULTS,
    pricer=pricer,
    is_free=is_free,
    errors=errors,
    prorated=True,
    prorated_in_advance=True,
    is_of_units=True,
    is_linear=True,
    has_instant_price=True,
)
