"""What prices are read from: amounts, whole numbers and the bounds of tiers (semantics-metering.md section 5.2)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permille.core.bounds import DIGITS_MAX
from permille.core.rating.models.price import Quantity, is_amount, is_whole, number, tier_errors

AMOUNTS = {"per_unit_amount": "invalid_amount"}


@pytest.mark.parametrize(
    ("value", "fits"),
    [(1, True), (0, False), (True, False), ("1", False), (10**DIGITS_MAX - 1, True), (10**DIGITS_MAX, False)],
)
def test_a_whole_number_has_bounds(value: Any, fits: bool) -> None:
    assert is_whole(value, least=1) is fits


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", "0"),
        ("00.50", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+7.25", "7.25"),
        ("1e3", "1000"),
        ("2E-7", "0.0000002"),
        ("9" * DIGITS_MAX, "9" * DIGITS_MAX),
        ("1e37", "1e37"),
    ],
)
def test_an_amount_is_text_of_a_decimal(text: str, amount: str) -> None:
    assert is_amount(text)
    assert number(text) == Decimal(amount)


@pytest.mark.parametrize(
    "wrong",
    [
        1,
        Decimal("0.5"),
        None,
        True,
        "",
        ".",
        "+",
        "-1",
        "-0.5",
        "1,5",
        "1_000",
        "0x1",
        "NaN",
        "Infinity",
        "e5",
    ],
)
def test_no_amount(wrong: Any) -> None:
    assert not is_amount(wrong)


@pytest.mark.parametrize("text", ["1e38", "1e99", "10e37", "1" * (DIGITS_MAX + 1)])
def test_an_amount_is_bounded(text: str) -> None:
    """What is more would not be exact any more when it is multiplied."""
    assert not is_amount(text)


def tiers(*bounds: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"from_value": low, "to_value": high, "per_unit_amount": "1"} for low, high in bounds]


@pytest.mark.parametrize("wrong", [True, 1.0, [0], None, "-1", -1, "1e3", " 1", "0" * 39])
def test_a_bound_is_a_plain_number(wrong: Any) -> None:
    assert tier_errors(tiers((wrong, None)), key="ranges", amounts=AMOUNTS, gap=1) == ["invalid_ranges"]
    bad_end = tier_errors(tiers((0, wrong), (11, None)), key="ranges", amounts=AMOUNTS, gap=1)
    assert "invalid_ranges" in bad_end


@pytest.mark.parametrize("high", [Decimal("1e-7"), Decimal("0.25"), Decimal("1E+3")])
def test_a_bound_is_any_number_of_json(high: Decimal) -> None:
    assert tier_errors(tiers((0, high), (high + 1, None)), key="ranges", amounts=AMOUNTS, gap=0) == []


def test_a_bound_is_no_endless_number() -> None:
    endless = tiers((0, Decimal("1e999999")), (1, None))
    assert "invalid_ranges" in tier_errors(endless, key="ranges", amounts=AMOUNTS, gap=0)


@pytest.mark.parametrize(
    "bound", [Decimal("1e-7"), Decimal("0.0000001"), "0.5", 7, Decimal("1e2"), 10**38 - 1]
)
def test_a_bound_is_a_number_however_small_and_however_written(bound: Any) -> None:
    assert tier_errors(tiers((0, bound), (bound, None)), key="ranges", amounts=AMOUNTS, gap=0) == []


@pytest.mark.parametrize("low", [0, 1, "0", Decimal(1)])
def test_the_first_tier_begins_at_nothing_or_one(low: Any) -> None:
    assert tier_errors(tiers((low, 10), (11, None)), key="ranges", amounts=AMOUNTS, gap=1) == []
    assert tier_errors(tiers((2, None)), key="ranges", amounts=AMOUNTS, gap=1) == ["invalid_ranges"]


def test_a_quantity_has_no_events_and_hundredths_unless_asked_otherwise() -> None:
    assert (Quantity(units=Decimal(1)).events_count, Quantity(units=Decimal(1)).subunits) == (0, 100)
