"""graduated: each tier prices the units that fall into it (semantics-metering.md section 5.4).

Tiers may be written for whole units (0 to 10, 11 to 20) or to meet (0 to 10, 10 to 20). The first tier's flat
amount is due without any usage; a later one's as soon as the units exceed the tier before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from permille.core.money import ZERO, decimal_text
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, number, per_unit, tier_errors
from permille.core.record import Record

KEYS = ("graduated_ranges",)
DEFAULTS: dict[str, Any] = {
    "graduated_ranges": [{"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}]
}


class Tier(Record):
    """A tier as sent, and its numbers."""

    sent: Mapping[str, Any]
    from_value: Decimal
    to_value: Decimal | None
    rate: Decimal
    flat_amount: Decimal

    def units_of(self, units: Decimal, *, tiers_meet: bool) -> Decimal:
        """How many of the units fall into this tier."""
        reached = units if self.to_value is None else min(units, self.to_value)
        if not self.from_value:
            return reached
        return reached - self.from_value + (0 if tiers_meet else 1)

    def is_last_of(self, units: Decimal) -> bool:
        """Whether the units end in this tier."""
        return self.to_value is None or self.to_value >= units


def read_tiers(sent: Sequence[Mapping[str, Any]], *, rate: str) -> list[Tier]:
    """The tiers in the order given; `rate` names the property which prices a unit."""
    return [
        Tier(
            tier,
            number(tier.get("from_value")),
            None if tier.get("to_value") is None else number(tier["to_value"]),
            number(tier.get(rate)),
            number(tier.get("flat_amount")),
        )
        for tier in sent
    ]


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its tiers."""
    tiers = read_tiers(properties["graduated_ranges"], rate="per_unit_amount")
    bounds = pairwise(tiers)
    tiers_meet = len(tiers) > 1 and all(tier.to_value == after.from_value for tier, after in bounds)

    def price(quantity: Quantity) -> Price:
        if quantity.full_units is not None:
            amount = prorated_amount(tiers, quantity.units, quantity.changes, days=quantity.days_in_period)
            return Price(amount, per_unit(amount, quantity.whole_units), {})
        total, lines = ZERO, []
        for tier in tiers:
            units = tier.units_of(quantity.units, tiers_meet=tiers_meet)
            line_amount = units * tier.rate
            total += line_amount + tier.flat_amount
            lines.append(_line(tier, units, line_amount))
            if tier.is_last_of(quantity.units):
                break
        return Price(total, per_unit(total, quantity.whole_units), {"graduated_ranges": lines})

    return price


def prorated_amount(
    tiers: Sequence[Tier], units: Decimal, changes: Sequence[tuple[Decimal, Decimal]], *, days: int = 1
) -> Decimal:
    """The price of prorated units (semantics-metering.md section 5.11).

    A change lies on the level where it happens: each part of it is priced by the tier that it enters or
    leaves, for its share of the days. Flat amounts are whole, up to the tier of the highest level. Shares are of
    so many `days`, by which the whole is divided once: thirds would not add up to half a cent.
    """
    if not units:
        return tiers[0].flat_amount
    level = highest = total = ZERO
    for whole, share in changes:
        if not share and (whole > 0 or level + whole < 0):
            continue
        for tier, part in _parts(tiers, level, level + whole):
            total += part * share / whole * tier.rate
        level += whole
        highest = max(highest, level)
    if level < 0:
        return ZERO
    return max(total / days, ZERO) + sum((tier.flat_amount for tier in _entered(tiers, highest)), ZERO)


def _parts(tiers: Sequence[Tier], before: Decimal, after: Decimal) -> Iterator[tuple[Tier, Decimal]]:
    """The tiers between two levels, each with how much of the way, up or down, lies in it."""
    low, high = min(before, after), max(before, after)
    sign = 1 if after > before else -1
    floor: Decimal | None = None
    for tier in tiers:
        top = high if tier.to_value is None else min(high, tier.to_value)
        bottom = low if floor is None else max(low, floor)
        if top > bottom:
            yield tier, sign * (top - bottom)
        floor = tier.to_value


def _entered(tiers: Sequence[Tier], level: Decimal) -> Iterator[Tier]:
    for tier in tiers:
        yield tier
        if tier.is_last_of(level):
            return


def _line(tier: Tier, units: Decimal, amount: Decimal) -> dict[str, Any]:
    return {
        "from_value": tier.sent.get("from_value"),
        "to_value": tier.sent.get("to_value"),
        "flat_unit_amount": decimal_text(tier.flat_amount),
        "per_unit_amount": decimal_text(tier.rate if units else ZERO),
        "units": decimal_text(units),
        "per_unit_total_amount": decimal_text(amount),
        "total_with_flat_amount": decimal_text(amount + tier.flat_amount),
    }


def are_free(tiers: Iterable[Tier]) -> bool:
    """Whether no tier costs anything."""
    return not any(tier.rate or tier.flat_amount for tier in tiers)


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether no usage costs anything."""
    return are_free(read_tiers(properties["graduated_ranges"], rate="per_unit_amount"))


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for properties that cannot be."""
    amounts = {"per_unit_amount": "invalid_amount", "flat_amount": "invalid_amount"}
    return tier_errors(properties.get("graduated_ranges"), key="graduated_ranges", amounts=amounts, gap=0)


MODEL = Model(
    keys=KEYS,
    defaults=DEFAULTS,
    pricer=pricer,
    is_free=is_free,
    errors=errors,
    prorated=True,
    is_of_units=True,
    is_of_changes=True,
)
