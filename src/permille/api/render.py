"""How values look on Lago's wire: instants to the second in UTC, decimals as texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, overload

from permille.api.objects.base import Number
from permille.api.objects.fee import PresentationBreakdown
from permille.core.money import ZERO, decimal_text, exact

MICROSECOND = timedelta(microseconds=1)


@overload
def instant(at: datetime) -> str: ...
@overload
def instant(at: datetime | None) -> str | None: ...
def instant(at: datetime | None) -> str | None:
    """2024-03-05T00:00:00Z; fractions of a second are cut off."""
    return _to_the_second(at) if at else None


@lru_cache(maxsize=4096)
def _to_the_second(at: datetime) -> str:
    """An invoice shows the few instants of its period on each of its lines."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


@overload
def instant_milliseconds(at: datetime) -> str: ...
@overload
def instant_milliseconds(at: datetime | None) -> str | None: ...
def instant_milliseconds(at: datetime | None) -> str | None:
    """2024-03-05T00:00:00.123Z, cut off, not rounded."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


@overload
def last_instant(end: datetime) -> str: ...
@overload
def last_instant(end: datetime | None) -> str | None: ...
def last_instant(end: datetime | None) -> str | None:
    """An exclusive end as Lago shows it: the last second of the period."""
    return instant(end - MICROSECOND) if end else None


def exact_numbers(value: Any) -> Any:
    """JSON with its decimals as numbers, every digit kept; the API's own decimals are texts."""
    match value:
        case dict():
            return {key: exact_numbers(item) for key, item in value.items()}
        case list():
            return [exact_numbers(item) for item in value]
        case Decimal():
            return Number(value)
        case _:
            return value


def breakdowns(parts: Iterable[tuple[Mapping[str, str], Decimal]]) -> list[PresentationBreakdown]:
    """Units by the values of properties that only show, those of the same values added up."""
    split: dict[tuple[tuple[str, str], ...], Decimal] = {}
    for shown, units in parts:
        key = tuple(shown.items())
        with exact():
            split[key] = split.get(key, ZERO) + units
    return [
        PresentationBreakdown(presentation_by=dict(key), units=decimal_text(units))
        for key, units in split.items()
    ]
