"""Charge models in fractions of the currency, by semantics-metering.md 5.3 to 5.8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor
from typing import Any

Prices = list[tuple[datetime, Any]]
"""What something costs, and of periods that begin from when on."""
ALWAYS = datetime(2021, 1, 1, tzinfo=UTC)


def rounded(number: Fraction) -> int:
    """Half away from zero."""
    return floor(number + Fraction(1, 2)) if number >= 0 else -floor(-number + Fraction(1, 2))


def digits(number: Fraction, places: int) -> Fraction:
    return Fraction(rounded(number * 10**places), 10**places)


def cut(number: Fraction, places: int) -> Fraction:
    return Fraction(floor(number * 10**places), 10**places)


def price(model: str, terms: Mapping[str, Any], units: Fraction, values: Sequence[Fraction]) -> Fraction:
    """What usage costs. `values` are those of its events, for percentages."""
    match model:
        case "standard":
            return units * Fraction(terms["amount"])
        case "package":
            paid = units - terms["free_units"]
            packages = ceil(paid / terms["package_size"]) if paid > 0 else 0
            return packages * Fraction(terms["amount"])
        case "percentage":
            return _percentage(terms, units, values)
        case "graduated":
            return _graduated(terms["graduated_ranges"], units)
        case "volume":
            return _volume(terms["volume_ranges"], units)
    raise ValueError(model)


def _percentage(terms: Mapping[str, Any], units: Fraction, values: Sequence[Fraction]) -> Fraction:
    fixed = Fraction(terms["fixed_amount"]) * len(values) if units else 0
    return units * Fraction(terms["rate"]) / 100 + fixed


def _graduated(tiers: Sequence[Mapping[str, Any]], units: Fraction) -> Fraction:
    total, reached = Fraction(0), Fraction(0)
    for tier in tiers:
        ends = tier["to_value"]
        top = units if ends is None else min(units, Fraction(ends))
        total += (top - reached) * Fraction(tier["per_unit_amount"]) + Fraction(tier["flat_amount"])
        if ends is None or units <= ends:
            return total
        reached = Fraction(ends)
    raise ValueError(tiers)


def _volume(tiers: Sequence[Mapping[str, Any]], units: Fraction) -> Fraction:
    tier = next(each for each in tiers if each["to_value"] is None or units <= each["to_value"])
    return units * Fraction(tier["per_unit_amount"]) + Fraction(tier["flat_amount"])


def place_of(charge: Mapping[str, Any], model: str) -> int:
    """The filter that an event falls into; the one after the last is for the rest."""
    found = [place for place, each in enumerate(charge["filters"]) if model in each["models"]]
    return found[0] if found else len(charge["filters"])


def terms_at(charge: Mapping[str, Any], start: datetime, place: int) -> Any:
    """The prices of a filter in a period that begins at an instant."""
    if place < len(charge["filters"]):
        return charge["filters"][place]["terms"]
    return [terms for at, terms in charge["prices"] if at <= start][-1]


def price_in_force(prices: Prices, now: datetime) -> Any:
    return [terms for at, terms in prices if at <= now][-1]


def prices_after(prices: Prices, since: datetime | None, now: datetime, after: Any) -> Prices:
    """An edit from an instant on, up to the next that says something, or (None) of all prices up to now."""
    if price_in_force(prices, since or now) == after:
        return [*prices]
    if since is None:
        return [(ALWAYS, after), *(each for each in prices if each[0] > now)]
    rest = [each for each in prices if each[0] != since]
    return sorted([*rest, (since, after)], key=lambda each: each[0])


def without_repeats(prices: Prices) -> Prices:
    """The same prices without those that say what was said before."""
    before: list[Any] = [None, *(terms for _, terms in prices)]
    return [each for each, last in zip(prices, before, strict=False) if each[1] != last]
