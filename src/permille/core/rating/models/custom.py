"""custom: what the metric's own rules have added up, event by event (semantics-metering.md section 5.10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from permille.core.metering.aggregations import CUSTOM
from permille.core.metering.custom_aggregation import CUSTOM_PROPERTIES
from permille.core.metering.event import numeric_value
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, per_unit

NAMES_MAX = 100
TEXT_MAX = 255

KEYS = (CUSTOM_PROPERTIES,)
DEFAULTS: dict[str, Any] = {}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}", re.ASCII)


def pricer(_properties: Mapping[str, Any]) -> Pricer:
    """The model; the rules of the metric have looked at its properties already."""
    return _price


def _price(quantity: Quantity) -> Price:
    return Price(quantity.custom_amount, per_unit(quantity.custom_amount, quantity.whole_units), {})


def is_free(_properties: Mapping[str, Any]) -> bool:
    """The metric's own rules say what usage costs."""
    return False


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Numbers and texts by names that a rule can say."""
    given = properties.get(CUSTOM_PROPERTIES)
    if given is None:
        return []
    fine = isinstance(given, Mapping) and len(given) <= NAMES_MAX and all(map(_is_fine, given.items()))
    return [] if fine else ["invalid_custom_properties"]


def _is_fine(item: tuple[str, Any]) -> bool:
    name, value = item
    if not _NAME.fullmatch(name):
        return False
    if isinstance(value, str):
        return len(value) <= TEXT_MAX
    return isinstance(value, int | Decimal) and numeric_value(value) is not None


MODEL = Model(keys=KEYS, defaults=DEFAULTS, pricer=pricer, is_free=is_free, errors=errors, needs=CUSTOM)
