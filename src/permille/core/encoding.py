"""How an event's properties are split into what its series holds, its value, and the rest.

The split loses nothing: dimensions || value || extra are the properties as they were sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from permille.core.event import numeric_value

# A text that PostgreSQL's numeric gives back as it was: no leading zeros, no minus zero.
_CANONICAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_MINUS_ZERO = re.compile(r"-0(?:\.0+)?")
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metering:
    """The property that is the value (None: no number is taken) and the sorted keys that make a series."""

    field_name: str | None
    keys: tuple[str, ...]
    version: int


NO_METERING = Metering(field_name=None, keys=(), version=0)


@dataclass(frozen=True, slots=True)
class Encoded:
    """`series` is a hashable form of `dimensions` and `value_is_text`; `value` is a decimal text."""

    series: tuple[Any, ...]
    dimensions: dict[str, Any]
    value_is_text: bool
    value: str | None
    extra: dict[str, Any] | None


def encode(metering: Metering, properties: Mapping[str, Any]) -> Encoded:
    """Split properties (JSON values, fractions as Decimal) as the metering says.

    Only texts, numbers and booleans become dimensions. The value is a number by Lago's rule
    (semantics-metering.md 2.3); one that numeric would not give back as it was sent stays in `extra` too.
    """
    dimensions: dict[str, Any] = {}
    series: list[Any] = []
    for key in metering.keys:
        value = properties.get(key, _MISSING)
        kind = type(value)
        if kind is str:
            dimensions[key] = value
            series.append(value)
        elif kind is int or kind is Decimal or kind is bool:
            dimensions[key] = value
            series.append((kind.__name__, str(value)))
        else:
            series.append(None)
    field, text, is_text, is_reproduced = metering.field_name, None, False, False
    if field is not None:
        text, is_text, is_reproduced = numeric_text(properties.get(field))
    series.append(is_text)
    if len(dimensions) + is_reproduced == len(properties):
        return Encoded(tuple(series), dimensions, is_text, text, None)
    extra = {
        key: value
        for key, value in properties.items()
        if key not in dimensions and not (is_reproduced and key == field)
    }
    return Encoded(tuple(series), dimensions, is_text, text, extra)


def numeric_text(value: Any) -> tuple[str | None, bool, bool]:
    """(decimal text or None, whether it was sent as a text, whether numeric gives it back as it was)."""
    kind = type(value)
    if kind is int:
        return str(value), False, True
    if kind is Decimal:
        return format(value, "f"), False, True
    if kind is not str or numeric_value(value) is None:
        return None, False, False
    if _CANONICAL.fullmatch(value) and not _MINUS_ZERO.fullmatch(value):
        return value, True, True
    return value, False, False


def series_identity(
    organization_id: UUID,
    external_subscription_id: str | None,
    code: str,
    metering_version: int,
    values: tuple[Any, ...],
) -> UUID:
    """A digest that is the same in every process for the same series."""
    parts = (str(organization_id), external_subscription_id, code, metering_version, values)
    return UUID(bytes=blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest())
