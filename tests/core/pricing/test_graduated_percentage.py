from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.rating.models import ChargeModel, validate
from tests.core.given import decimals
from tests.core.pricing.table import Ladder, ladders, priced, tier

MODEL = ChargeModel.GRADUATED_PERCENTAGE


def of(*tiers: tuple[Any, Any, str, str]) -> dict[str, Any]:
    return {"graduated_percentage_ranges": [tier(*each, key="rate") for each in tiers]}


THREE = of((0, 10, "1", "200"), (11, 20, "2", "300"), (21, None, "3", "400"))
TWO = of((0, 100, "5", "0"), (101, None, "2", "10"))


@pytest.mark.parametrize(
    ("properties", "units", "total"),
    [
        # semantics-metering.md 7.9
        (THREE, "0", "200"),
        (THREE, "1", "200.01"),
        (THREE, "10", "200.1"),
        (THREE, "11", "500.12"),
        (THREE, "12", "500.14"),
        (THREE, "21", "900.33"),
        (TWO, "50", "2.5"),
        (TWO, "150", "16"),
    ],
)
def test_vectors(properties: dict[str, Any], units: str, total: str) -> None:
    price = priced(MODEL, properties, units)
    assert price.amount == Decimal(total)
    assert (
        price.unit_amount * max(Decimal(units), Decimal(1)) == pytest.approx(Decimal(total)) or units == "0"
    )


def test_it_explains_its_tiers() -> None:
    (line,) = priced(MODEL, of((7, 10, "2.9", "2")), "15").details["graduated_percentage_ranges"]
    assert line == {
        "from_value": 7,
        "to_value": 10,
        "flat_unit_amount": "2.0",
        "rate": "2.9",
        "units": "4.0",
        "per_unit_total_amount": "0.116",
        "total_with_flat_amount": "2.116",
    }


@given(st.integers(0, 60))
def test_units_are_priced_one_by_one(units: int) -> None:
    total = Decimal(200)
    for unit in range(1, units + 1):
        place = (unit > 10) + (unit > 20)
        total += Decimal(place + 1) / 100
        total += {11: 300, 21: 400}.get(unit, 0)
    assert priced(MODEL, THREE, str(units)).amount == total


@given(ladders(), decimals(0, 60, 2), decimals(0, 60, 2))
def test_units_on_top_of_others_cost_what_their_tiers_do(ladder: Ladder, a: Decimal, b: Decimal) -> None:
    """Parts of units too; and so more units never cost less."""
    properties = {"graduated_percentage_ranges": ladder.tiers(gap=1, key="rate")}
    first, both = (priced(MODEL, properties, str(units)).amount for units in (a, a + b))
    percent = Ladder(ladder.bounds, [rate / 100 for rate in ladder.rates], ladder.flats)
    assert first == ladder.flats[0] + percent.between(Decimal(0), a)
    assert both == first + percent.between(a, a + b)
    assert both >= first


@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        ({}, ["missing_graduated_percentage_ranges"]),
        (THREE, []),
        (
            of((0, 10, "x", "1"), (12, None, "1", "-1")),
            ["invalid_rate", "invalid_amount", "invalid_graduated_percentage_ranges"],
        ),
    ],
)
def test_invalid_properties(properties: dict[str, Any], codes: list[str]) -> None:
    assert validate(MODEL, properties) == codes
