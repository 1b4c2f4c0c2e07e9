"""dynamic: the events bring their own amounts (semantics-metering.md section 5.9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.core.metering.aggregations import SUM
from permille.core.money import ZERO
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, per_unit

KEYS: tuple[str, ...] = ()
DEFAULTS: dict[str, Any] = {}


def pricer(_properties: Mapping[str, Any]) -> Pricer:
    """The model; it has no properties."""
    return _price


def _price(quantity: Quantity) -> Price:
    # As in Lago, amounts that come without any unit are not billed.
    amount = quantity.precise_amount_cents / quantity.subunits if quantity.units else ZERO
    return Price(amount, per_unit(amount, quantity.units), {})


def is_free(_properties: Mapping[str, Any]) -> bool:
    """The events bring their own amounts."""
    return False


def errors(_properties: Mapping[str, Any]) -> list[str]:
    """There is nothing to be wrong."""
    return []


MODEL = Model(keys=KEYS, defaults=DEFAULTS, pricer=pricer, is_free=is_free, errors=errors, needs=SUM)
