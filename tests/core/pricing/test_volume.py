from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.rating.models import ChargeModel, validate
from tests.core.given import decimals
from tests.core.pricing.table import Ladder, ladders, priced, tier

VOLUME = ChargeModel.VOLUME


def of(*tiers: Any) -> dict[str, Any]:
    return {"volume_ranges": list(tiers)}


THREE = of(tier(0, 100, "2", "10"), tier(101, 200, "1", "0"), tier(201, None, "0.5", "50"))
TWO = of(tier(0, 10, "5", "100"), tier(11, None, "2", "50"))


@pytest.mark.parametrize(
    ("properties", "units", "total"),
    [
        # semantics-metering.md 7.12; the drop from 100 to 100.5 units is how volume prices are
        (THREE, "0", "10"),
        (THREE, "1", "12"),
        (THREE, "100", "210"),
        (THREE, "100.5", "100.5"),
        (THREE, "101", "101"),
        (THREE, "200", "200"),
        (THREE, "300", "200"),
        (TWO, "5", "125"),
        (TWO, "15", "80"),
        (TWO, "-3", "85"),
        (of(tier(1, 10, "5", "7"), tier(11, None, "2", "50")), "0", "7"),
    ],
)
def test_vectors(properties: dict[str, Any], units: str, total: str) -> None:
    assert priced(VOLUME, properties, units).amount == Decimal(total)


GAPS = of(tier(0, 5, "3", "1"), tier(7, 9, "2", "0"), tier(11, None, "1", "0"))


@pytest.mark.parametrize(
    ("units", "total"), [("5", "16"), ("5.5", "11"), ("6", "12"), ("9", "18"), ("9.01", "9.01"), ("10", "10")]
)
def test_a_total_between_two_tiers_has_the_price_of_the_higher_one(units: str, total: str) -> None:
    assert validate(VOLUME, GAPS) == []
    assert priced(VOLUME, GAPS, units).amount == Decimal(total)


def test_prorated_units_are_priced_in_the_tier_of_the_whole_ones() -> None:
    price = priced(VOLUME, THREE, "198.6", full_units=Decimal(300))
    assert price.amount == Decimal("149.3")
    assert price.unit_amount * 300 == pytest.approx(Decimal("149.3"))
    assert price.details == {
        "flat_unit_amount": "50.0",
        "per_unit_amount": "0.331",
        "per_unit_total_amount": "99.3",
    }


def test_without_usage_there_is_no_amount_per_unit() -> None:
    price = priced(VOLUME, THREE, "0")
    assert price.unit_amount == 0
    assert price.details["per_unit_amount"] == "0.0"


@given(ladders(), decimals(0, 60, 2), st.none() | decimals(0, 60, 2))
def test_all_units_have_the_price_of_one_tier(ladder: Ladder, units: Decimal, full: Decimal | None) -> None:
    """Bounds are of whole units: what is above one by a part of a unit is in the tier that follows."""
    total = units if full is None else full
    place = sum(1 for bound in ladder.bounds if bound < total)
    expected = units * ladder.rates[place] + ladder.flats[place]
    properties = of(*ladder.tiers(gap=1))
    found = priced(VOLUME, properties, str(units), full_units=full)
    assert found.amount == expected
    assert abs(found.unit_amount * total - (expected if total else 0)) < Decimal("1e-20")


def test_more_units_may_cost_less() -> None:
    """Of all models this one alone: 100 units at 2 and 10 more, then 101 at 1."""
    assert [priced(VOLUME, THREE, units).amount for units in ("100", "101")] == [210, 101]


@given(st.permutations(THREE["volume_ranges"]), st.integers(0, 400))
def test_the_order_of_the_tiers_does_not_matter(tiers: list[Any], units: int) -> None:
    assert priced(VOLUME, of(*tiers), str(units)) == priced(VOLUME, THREE, str(units))


@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        ({}, ["missing_volume_ranges"]),
        (THREE, []),
        (of(tier(0, 10, "1"), tier(12, None, "1")), []),
        (of(tier(0, 10, "1"), tier(10, None, "1")), ["invalid_volume_ranges"]),
        (of(tier(0, 10, "1"), tier(13, None, "-1")), ["invalid_amount", "invalid_volume_ranges"]),
    ],
)
def test_invalid_properties(properties: dict[str, Any], codes: list[str]) -> None:
    assert validate(VOLUME, properties) == codes
