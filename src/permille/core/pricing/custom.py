"""custom: priced by the customer's own code in Lago, which we don't run: it costs nothing (section 5.10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.core.money import ZERO
from permille.core.pricing.price import Price, Pricer, Quantity

KEYS = ("custom_properties",)
DEFAULTS: dict[str, Any] = {}


def pricer(_properties: Mapping[str, Any]) -> Pricer:
    """The model; its properties mean nothing to us."""
    return _price


def _price(_quantity: Quantity) -> Price:
    return Price(ZERO, ZERO, {})


def errors(_properties: Mapping[str, Any]) -> list[str]:
    """Anything goes."""
    return []
