"""What prices are read from: amounts, whole numbers and the bounds of tiers (semantics-metering.md section 5.2)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permille.core.event import DIGITS_MAX
from permille.core.pricing.price import Quantity, is_whole, tier_errors

AMOUNTS = {"per_unit_amount": "invalid_amount"}


@pytest.mark.parametrize(
    ("value", "fits"),
    [(1, True), (0, False), (True, False), ("1", False), (10**DIGITS_MAX - 1, True), (10**DIGITS_MAX, False)],
)
def test_a_whole_number_has_bounds(value: Any, fits: bool) -> None:
    assert is_whole(value, least=1) is fits


def tiers(*bounds: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"from_value": low, "to_value": high, "per_unit_amount": "1"} for low, high in bounds]


@pytest.mark.parametrize("wrong", [True, 1.0, [0], None, "-1", -1, "1e3", " 1", "0" * 39])
def test_a_bound_is_a_plain_number(wrong: Any) -> None:
    assert tier_errors(tiers((wrong, None)), key="ranges", amounts=AMOUNTS, gap=1) == ["invalid_ranges"]
    bad_end = tier_errors(tiers((0, wrong), (11, None)), key="ranges", amounts=AMOUNTS, gap=1)
    assert "invalid_ranges" in bad_end


@pytest.mark.parametrize(
    "bound", [Decimal("1e-7"), Decimal("0.0000001"), "0.5", 7, Decimal("1e2"), 10**38 - 1]
)
def test_a_bound_is_a_number_however_small_and_however_written(bound: Any) -> None:
    assert tier_errors(tiers((0, bound), (bound, None)), key="ranges", amounts=AMOUNTS, gap=0) == []


@pytest.mark.parametrize("low", [0, 1, "0", Decimal(1)])
def test_the_first_tier_begins_at_nothing_or_one(low: Any) -> None:
    assert tier_errors(tiers((low, 10), (11, None)), key="ranges", amounts=AMOUNTS, gap=1) == []
    assert tier_errors(tiers((2, None)), key="ranges", amounts=AMOUNTS, gap=1) == ["invalid_ranges"]


def test_a_quantity_has_no_events_and_hundredths_unless_told_otherwise() -> None:
    assert (Quantity(units=Decimal(1)).events_count, Quantity(units=Decimal(1)).subunits) == (0, 100)
