"""Projections: days against a walk through them, amounts against the price of what is projected (semantics-metering.md 6.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.usage import Partial
from permille.core.period import Period, local_date
from permille.core.rating.charge import CompiledCharge, compile_charge
from permille.core.rating.fee import Fee
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.models import ChargeModel
from permille.core.rating.projection import Projection, elapsed_share, project
from permille.core.rating.rate import rate
from tests.core.given import in_period

from .given import TIMEZONES, decimals

MARCH = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
THIRD = elapsed_share(datetime(2024, 3, 3, 9, tzinfo=UTC), MARCH, "UTC")

TIERS = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "5"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
]
PROPERTIES: dict[ChargeModel, dict[str, Any]] = {
    ChargeModel.STANDARD: {"amount": "10"},
    ChargeModel.PACKAGE: {"amount": "3", "package_size": 7, "free_units": 2},
    ChargeModel.GRADUATED: {"graduated_ranges": TIERS},
    ChargeModel.VOLUME: {"volume_ranges": TIERS},
    ChargeModel.PERCENTAGE: {"rate": "10", "fixed_amount": "1"},
    ChargeModel.GRADUATED_PERCENTAGE: {
        "graduated_percentage_ranges": [
            {"from_value": 0, "to_value": None, "rate": "10", "flat_amount": "1"},
        ]
    },
}


def compiled(model: ChargeModel, properties: dict[str, Any] | None = None) -> CompiledCharge:
    return compile_charge(
        charge_id="charge",
        model=model,
        properties=properties or PROPERTIES[model],
        filters=[],
        aggregation=aggregations.SUM,
        currency="USD",
    )


def fee_of(charge: CompiledCharge, units: Decimal) -> Fee:
    partial = Partial(events_count=1, values_count=1, sum=units)
    (fee,) = rate(charge, [({}, partial)], subscription_id="sub", rated=in_period(MARCH))
    return fee


@pytest.mark.parametrize(
    ("units", "amount", "expected"), [("3", "10", ("31.00", 31_000)), ("1", "20", ("10.33", 20_660))]
)
def test_the_published_figures(units: str, amount: str, expected: tuple[str, int]) -> None:
    charge = compiled(ChargeModel.STANDARD, {"amount": amount})
    found = project(charge, fee_of(charge, Decimal(units)), recurring=False, elapsed=THIRD)
    assert found == Projection(Decimal(expected[0]), expected[1])


@given(
    st.integers(-5, 40 * 24 * 60),
    st.integers(0, 20 * 24 * 60),
    st.integers(1, 20 * 24 * 60),
    st.sampled_from(TIMEZONES),
)
def test_days_are_counted_as_a_walk_counts_them(at: int, start: int, length: int, timezone: str) -> None:
    origin = datetime(2024, 3, 5, tzinfo=UTC)
    period = Period(origin + timedelta(minutes=start), origin + timedelta(minutes=start + length))
    now = origin + timedelta(minutes=at)
    days, begun = set(), set()
    moment = period.from_
    while moment < period.to:
        day = local_date(moment, timezone)
        days.add(day)
        if moment <= now:
            begun.add(day)
        moment += timedelta(minutes=1)
    assert elapsed_share(now, period, timezone) == (
        1 if now >= period.to else Fraction(len(begun), len(days))
    )


@given(st.sampled_from(list(PROPERTIES)), decimals(-20, 100, 3), st.integers(1, 31))
def test_what_is_priced_by_units_alone_costs_what_the_projected_units_do(
    model: ChargeModel, units: Decimal, begun: int
) -> None:
    charge = compiled(model)
    fee = fee_of(charge, units)
    found = project(charge, fee, recurring=False, elapsed=Fraction(begun, 31))
    hundredths = floor(Fraction(max(units, Decimal(0))) * 31 / begun * 100 + Fraction(1, 2))
    assert Fraction(found.units) == Fraction(hundredths, 100)
    if model in (ChargeModel.PERCENTAGE, ChargeModel.GRADUATED_PERCENTAGE):
        cents = Fraction(fee.precise_amount_cents) * 31 / begun
        assert found.amount_cents == floor(cents + Fraction(1, 2))
    elif not found.units:
        assert found.amount_cents == 0
    else:
        assert found.amount_cents == fee_of(charge, found.units).amount_cents


@given(st.sampled_from(list(PROPERTIES)), decimals(-20, 100, 3))
def test_nothing_is_known_before_and_what_recurs_stays(model: ChargeModel, units: Decimal) -> None:
    charge = compiled(model)
    fee = fee_of(charge, units)
    assert project(charge, fee, recurring=True, elapsed=Fraction(0)) == Projection(Decimal(0), 0)
    assert project(charge, fee, recurring=True, elapsed=THIRD) == Projection(fee.units, fee.amount_cents)


def test_of_a_charge_with_a_filter_only_what_the_filter_wants_is_projected() -> None:
    """A quarter is over: 5 units at 2 become 20; what no filter wants is not told, as in Lago."""
    charge = compile_charge(
        charge_id="charge",
        model=ChargeModel.STANDARD,
        properties={"amount": "1"},
        filters=[ChargeFilter("eu", {"region": ("eu",)}, None, {"amount": "2"})],
        aggregation=aggregations.SUM,
        currency="USD",
    )
    partial = Partial(events_count=1, values_count=1, sum=Decimal(5))
    series = [({"region": "eu"}, partial), ({"region": "us"}, partial)]
    eu, rest = rate(charge, series, subscription_id="sub", rated=in_period(MARCH))
    quarter = Fraction(1, 4)
    assert project(charge, eu, recurring=False, elapsed=quarter) == Projection(Decimal(20), 4_000)
    assert project(charge, eu, recurring=True, elapsed=quarter) == Projection(Decimal(5), 1_000)
    for recurring in (False, True):
        assert project(charge, rest, recurring=recurring, elapsed=quarter) == Projection(Decimal(0), 0)


def test_a_period_is_over_at_its_end_and_has_begun_at_its_start() -> None:
    instant = timedelta(microseconds=1)
    moments = [MARCH.from_ - instant, MARCH.from_, MARCH.to - instant, MARCH.to, MARCH.to + instant]
    assert [elapsed_share(at, MARCH, "UTC") for at in moments] == [0, Fraction(1, 31), 1, 1, 1]
