from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.rating.models import ChargeModel, validate
from tests.core.given import decimals
from tests.core.pricing.table import Ladder, ladders, priced, tier

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


gaps = st.sampled_from([0, 1])


@given(ladders(), st.integers(0, 60), gaps)
def test_units_are_priced_one_by_one(ladder: Ladder, units: int, gap: int) -> None:
    bounds, amounts, flats = ladder
    total = flats[0]
    for unit in range(1, units + 1):
        place = sum(1 for bound in bounds if unit > bound)
        total += amounts[place]
        if place and unit - 1 == bounds[place - 1]:
            total += flats[place]
    properties = of(*ladder.tiers(gap=gap))
    assert priced(GRADUATED, properties, str(units)).amount == total
    assert validate(GRADUATED, properties) == []


@given(ladders(), decimals(0, 60, 2), decimals(0, 60, 2), gaps)
def test_units_on_top_of_others_cost_what_their_tiers_do(
    ladder: Ladder, a: Decimal, b: Decimal, gap: int
) -> None:
    """Parts of units too; and so more units never cost less."""
    properties = of(*ladder.tiers(gap=gap))
    first, both = (priced(GRADUATED, properties, str(units)).amount for units in (a, a + b))
    assert first == ladder.flats[0] + ladder.between(Decimal(0), a)
    assert both == first + ladder.between(a, a + b)
    assert both >= first


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
