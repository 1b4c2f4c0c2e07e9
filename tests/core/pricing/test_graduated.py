from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.pricing import ChargeModel, validate
from tests.core.given import decimals
from tests.core.pricing.table import priced, tier

GRADUATED = ChargeModel.GRADUATED


def of(*tiers: Any) -> dict[str, Any]:
    return {"graduated_ranges": list(tiers)}


THREE = of(tier(0, 10, "10", "2"), tier(11, 20, "5", "3"), tier(21, None, "5", "3"))
MEETING = of(tier(0, Decimal("0.1"), "10"), tier(Decimal("0.1"), 1, "5"), tier(1, None, "2"))


@pytest.mark.parametrize(
    ("properties", "units", "total", "unit_amount"),
    [
        # semantics-metering.md 7.8
        (THREE, "0", "2", "0"),
        (THREE, "1", "12", "12"),
        (THREE, "10", "102", "10.2"),
        (THREE, "11", "110", "10"),
        (THREE, "12", "115", "9.58333"),
        (THREE, "21", "163", "7.76190"),
        (THREE, "10.5", "107.5", "10.23810"),
        (MEETING, "0.05", "0.5", "10"),
        (MEETING, "0.5", "3.0", "6"),
        (MEETING, "2", "7.5", "3.75"),
        (of(tier(0, Decimal("0.01"), "0"), tier(Decimal("0.01"), None, "10", "2")), "0", "0", "0"),
        (of(tier(0, 5, "10", "100"), tier(6, None, "5", "50")), "3", "130", "43.33333"),
        (of(tier(0, 5, "10", "100"), tier(6, None, "5", "50")), "8", "215", "26.875"),
        (of(tier(0, 10, "2", "100"), tier(11, None, "1", "50")), "0", "100", "0"),
        (of(tier(0, None, "0.01", "0.01")), "4", "0.05", "0.0125"),
        (of(tier(1, 10, "2", "7"), tier(11, None, "1")), "0", "7", "0"),
        (of(tier(1, None, "2")), "5", "10", "2"),
        (of(tier(0, 10, "2"), tier(10, None, "1")), "20", "30", "1.5"),
    ],
)
def test_vectors(properties: dict[str, Any], units: str, total: str, unit_amount: str) -> None:
    price = priced(GRADUATED, properties, units)
    assert price.amount == Decimal(total)
    assert round(price.unit_amount, 5) == Decimal(unit_amount)


def test_it_explains_its_tiers_up_to_the_last_one_reached() -> None:
    lines = priced(GRADUATED, THREE, "12").details["graduated_ranges"]
    assert lines == [
        {
            "from_value": 0,
            "to_value": 10,
            "flat_unit_amount": "2.0",
            "per_unit_amount": "10.0",
            "units": "10.0",
            "per_unit_total_amount": "100.0",
            "total_with_flat_amount": "102.0",
        },
        {
            "from_value": 11,
            "to_value": 20,
            "flat_unit_amount": "3.0",
            "per_unit_amount": "5.0",
            "units": "2.0",
            "per_unit_total_amount": "10.0",
            "total_with_flat_amount": "13.0",
        },
    ]
    (idle,) = priced(GRADUATED, THREE, "0").details["graduated_ranges"]
    assert (idle["per_unit_amount"], idle["units"]) == ("0.0", "0.0")


@st.composite
def ladders(draw: st.DrawFn) -> tuple[list[int], list[Decimal], list[Decimal]]:
    """Upper bounds of all tiers but the last, and each tier's amounts."""
    bounds = sorted(2 * bound for bound in draw(st.sets(st.integers(1, 20), max_size=4)))
    amounts = [draw(decimals(0, 10, 3)) for _ in range(len(bounds) + 1)]
    flats = [draw(decimals(0, 10, 2)) for _ in range(len(bounds) + 1)]
    return bounds, amounts, flats


def properties_of(
    bounds: list[int], amounts: list[Decimal], flats: list[Decimal], *, gap: int
) -> dict[str, Any]:
    starts, ends = [0, *(bound + gap for bound in bounds)], [*bounds, None]
    rows = zip(starts, ends, amounts, flats, strict=True)
    return of(*(tier(start, end, str(amount), str(flat)) for start, end, amount, flat in rows))


@given(ladders(), st.integers(0, 60), st.sampled_from([0, 1]))
def test_units_are_priced_one_by_one(
    ladder: tuple[list[int], list[Decimal], list[Decimal]], units: int, gap: int
) -> None:
    bounds, amounts, flats = ladder
    total = flats[0]
    for unit in range(1, units + 1):
        place = sum(1 for bound in bounds if unit > bound)
        total += amounts[place]
        if place and unit - 1 == bounds[place - 1]:
            total += flats[place]
    properties = properties_of(*ladder, gap=gap)
    assert priced(GRADUATED, properties, str(units)).amount == total
    assert validate(GRADUATED, properties) == []


@given(ladders(), decimals(0, 60, 2), decimals(0, 60, 2), st.sampled_from([0, 1]))
def test_more_units_never_cost_less(
    ladder: tuple[list[int], list[Decimal], list[Decimal]], a: Decimal, b: Decimal, gap: int
) -> None:
    properties = properties_of(*ladder, gap=gap)
    prices = [priced(GRADUATED, properties, str(units)).amount for units in sorted((a, b))]
    assert prices[0] <= prices[1]


@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        ({}, ["missing_graduated_ranges"]),
        (of(), ["missing_graduated_ranges"]),
        ({"graduated_ranges": "x"}, ["missing_graduated_ranges"]),
        (THREE, []),
        (MEETING, []),
        (of(tier(1, None, "1")), []),
        (of(tier(2, None, "1")), ["invalid_graduated_ranges"]),
        (of(tier(0, 10, "1")), ["invalid_graduated_ranges"]),
        (of(tier(0, None, "1"), tier(11, None, "1")), ["invalid_graduated_ranges"] * 2),
        (of(tier(0, 10, "1"), tier(12, None, "1")), ["invalid_graduated_ranges"]),
        (of(tier(0, 0, "1"), tier(1, None, "1")), ["invalid_graduated_ranges"]),
        (of({**tier(0, None, "x"), "flat_amount": 1}), ["invalid_amount"] * 2),
        (
            of({**tier(5, None, "x"), "flat_amount": None}),
            ["invalid_amount", "invalid_amount", "invalid_graduated_ranges"],
        ),
        (of("x"), ["invalid_amount", "invalid_amount", "invalid_graduated_ranges"]),
        (of({"to_value": None, "per_unit_amount": "1", "flat_amount": "1"}), ["invalid_graduated_ranges"]),
        (of(tier(Decimal("NaN"), True, "1"), tier(1, None, "1")), ["invalid_graduated_ranges"]),
    ],
)
def test_invalid_properties(properties: dict[str, Any], codes: list[str]) -> None:
    assert validate(GRADUATED, properties) == codes
