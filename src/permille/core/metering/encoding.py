"""How an event's properties are split into what its series holds, its value, and the rest.

The split loses nothing: dimensions || value || extra are the properties as they were sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from permille.core.metering.event import numeric_value
from permille.core.once import Once
from permille.core.record import Record

# A text that PostgreSQL's numeric gives back as it was: no leading zeros, no minus zero.
_CANONICAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_MINUS_ZERO = re.compile(r"-0(?:\.0+)?")


class SeriesLayout(Record, kw_only=True, dict=True):
    """The property that is the value (None: no number is taken) and the sorted keys that make a series."""

    field_name: str | None
    keys: tuple[str, ...]
    version: int
    expression: str | None = None
    """Text of an expression that makes the property `expression_field` before anything else."""
    expression_field: str | None = None
    in_advance: bool = False
    """Whether any charge on it is paid in advance: then each event waits for its fee."""
    distinct_field: str | None = None
    """The property whose distinct values are counted; what is kept of events depends on it, not how they are split."""

    @Once
    def usual_size(self) -> int:
        """How many properties an event has that holds nothing else."""
        return len(self.keys) + (self.field_name is not None)

    @property
    def value_key(self) -> str | None:
        """The property that need not be kept beside the value, unless it is a key of the series too."""
        return None if self.field_name in self.keys else self.field_name


NO_LAYOUT = SeriesLayout(field_name=None, keys=(), version=0)


class Encoded(NamedTuple):
    """`series` is a hashable form of what the series holds: for each key its value, then whether the value
    was sent as a text. `value` is a decimal text.
    """

    series: tuple[Any, ...]
    value: str | None
    extra: dict[str, Any] | None


# NamedTuple's own constructor takes three times as long as that of a tuple.
_encoded = partial(tuple.__new__, Encoded)


def encode(metering: SeriesLayout, properties: Mapping[str, Any]) -> Encoded:
    """Split properties (JSON values, fractions as Decimal) as the metering says.

    Only texts, numbers and booleans become dimensions. The value is a number by Lago's rule
    (semantics-metering.md 2.3); one that numeric would not give back as it was sent stays in `extra` too.
    """
    # The usual event, at the speed that ingestion needs: every dimension a text, the value a whole number.
    if len(properties) == metering.usual_size:
        amount = properties.get(metering.field_name or "")
        if type(amount) is int:
            values: list[Any] = [*map(properties.get, metering.keys)]
            for value in values:
                if type(value) is not str:
                    break
            else:
                values.append(False)
                return _encoded((tuple(values), str(amount), None))
    return _encode_any(metering, properties)


def _encode_any(metering: SeriesLayout, properties: Mapping[str, Any]) -> Encoded:
    series: list[Any] = []
    dimensions: set[str] = set()
    for key in metering.keys:
        value = properties.get(key)
        kind = type(value)
        if kind is str:
            series.append(value)
            dimensions.add(key)
        elif kind is int or kind is Decimal or kind is bool:
            series.append((kind.__name__, str(value)))
            dimensions.add(key)
        else:
            series.append(None)
    name, text, is_text, is_reproduced = metering.field_name, None, False, False
    if name is not None:
        text, is_text, is_reproduced = numeric_text(properties.get(name))
        is_reproduced = is_reproduced and name == metering.value_key
    series.append(is_text)
    if len(dimensions) + is_reproduced == len(properties):
        return Encoded(tuple(series), text, None)
    extra = {
        key: value
        for key, value in properties.items()
        if key not in dimensions and not (is_reproduced and key == name)
    }
    return Encoded(tuple(series), text, extra)


def is_dimension(value: Any) -> bool:
    """Whether a property's value can be a key of a series: a text, a number or a boolean."""
    return isinstance(value, str | int | Decimal)


_KINDS: Mapping[str, Callable[[str], Any]] = {"int": int, "Decimal": Decimal, "bool": "True".__eq__}


def dimensions_of(metering: SeriesLayout, series: tuple[Any, ...]) -> dict[str, Any]:
    """The properties that a series holds, as they were sent."""
    return {
        key: value if isinstance(value, str) else _KINDS[value[0]](value[1])
        for key, value in zip(metering.keys, series, strict=False)
        if value is not None
    }


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
    """A digest that is the same in every process for the same series. `values` is Encoded.series."""
    parts = (str(organization_id), external_subscription_id, code, metering_version, values)
    return UUID(bytes=blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest())
