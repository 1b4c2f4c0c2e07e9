"""package: an amount for each package of units that was begun (semantics-metering.md section 5.6).

The packages are counted in exact decimals. Lago divides in binary floating point, so it may lose a begun
package when the units are above a whole package by less than one part in 10^15.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.core.money import ZERO, decimal_text
from permille.core.rating.models.price import (
    Model,
    Price,
    Pricer,
    Quantity,
    codes,
    is_amount,
    is_whole,
    number,
    per_unit,
)

KEYS = ("amount", "package_size", "free_units")
DEFAULTS: dict[str, Any] = {"amount": "0", "package_size": 1, "free_units": 0}


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its amount per package, package size and free units."""
    package_amount = number(properties.get("amount"))
    package_size = number(properties.get("package_size"))
    free_units = number(properties.get("free_units"))
    nothing = {
        "free_units": "0.0",
        "paid_units": "0.0",
        "per_package_size": 0,
        "per_package_unit_amount": "0.0",
    }
    terms = {
        "free_units": decimal_text(free_units),
        "paid_units": "0.0",
        "per_package_size": int(package_size),
        "per_package_unit_amount": decimal_text(package_amount),
    }

    def price(quantity: Quantity) -> Price:
        if not quantity.units:
            return Price(ZERO, ZERO, dict(nothing))
        paid_units = quantity.units - free_units
        if paid_units <= 0:
            return Price(ZERO, ZERO, dict(terms))
        packages, rest = divmod(paid_units, package_size)
        amount = (packages + 1 if rest else packages) * package_amount
        details = terms | {"paid_units": decimal_text(paid_units)}
        return Price(amount, per_unit(amount, paid_units), details)

    return price


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether no usage costs anything."""
    return not number(properties.get("amount"))


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for properties that cannot be."""
    return codes(
        [
            ("invalid_amount", is_amount(properties.get("amount"))),
            ("invalid_package_size", is_whole(properties.get("package_size"), least=1)),
            ("invalid_free_units", is_whole(properties.get("free_units"), least=0)),
        ]
    )


MODEL = Model(keys=KEYS, defaults=DEFAULTS, pricer=pricer, is_free=is_free, errors=errors, is_of_units=True)
