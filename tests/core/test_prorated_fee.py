"""Fees of prorated charges and the fee up to the least amount, from partials to amounts (semantics-metering.md 5.13, 7.6)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from permille.core.metering import aggregations
from permille.core.metering.usage import Partial
from permille.core.period import Period
from permille.core.rating.charge import CompiledCharge, Dimensions, compile_charge
from permille.core.rating.fee import Fee
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.minimum_charge import true_up_fee
from permille.core.rating.models import ChargeModel
from permille.core.rating.proration import Proration
from permille.core.rating.rate import rate
from permille.core.record import replace
from tests.core.given import in_period

MARCH = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
BY = Proration("UTC", 31)
EU = ChargeFilter("eu", {"region": ("eu",)}, None, {"amount": "2"})


def day(number: int, month: int = 3) -> datetime:
    return datetime(2024, month, number, 10, tzinfo=UTC)


def compiled(amount: str = "1", **more: Any) -> CompiledCharge:
    given: dict[str, Any] = {
        "charge_id": "charge",
        "model": ChargeModel.STANDARD,
        "properties": {"amount": amount},
        "filters": [],
        "aggregation": aggregations.SUM,
        "currency": "USD",
    }
    return compile_charge(**(given | more))


def fees(charge: CompiledCharge, *series: tuple[Dimensions, Partial], period: Period = MARCH) -> list[Fee]:
    return rate(charge, series, subscription_id="sub", rated=in_period(period, by=BY))


def summed(*values: tuple[datetime, str]) -> Partial:
    instances = tuple((at, seq, Decimal(value)) for seq, (at, value) in enumerate(values))
    return Partial(
        events_count=len(values),
        values_count=len(values),
        sum=sum((value for _, _, value in instances), Decimal(0)),
        values=instances,
    )


@pytest.mark.parametrize("base", ["in the values", "only in the sum"])
def test_a_prorated_sum_with_rounding(base: str) -> None:
    """7.6, 3: what stood before may be known by its sum alone."""
    partial = summed((day(9, 2), "2.5"), (day(9, 2), "2.5"), (day(26), "12"), (day(26), "12.434"))
    if base == "only in the sum":
        partial = partial._replace(values=partial.values[2:])
    charge = compiled(prorated=True, rounding_function="ceil", rounding_precision=2)
    (fee,) = fees(charge, ({}, partial))
    assert (fee.units, fee.events_count, fee.amount_cents) == (Decimal("29.44"), 4, 973)
    assert fee.precise_unit_amount == Decimal("0.330502717391304")


def test_seats_that_are_gone_still_cost_their_days() -> None:
    operations = ((day(1, 2), 1, "a", True), (day(10), 2, "a", False))
    partial = Partial(events_count=2, uniques={"a": (*operations[-1][:2], False)}, operations=operations)
    charge = compiled("31", prorated=True, aggregation=aggregations.UNIQUE_COUNT)
    (fee,) = fees(charge, ({}, partial))
    assert (fee.units, fee.events_count, fee.amount_cents, fee.precise_unit_amount) == (0, 0, 1_000, 0)


def test_what_comes_at_the_very_start_is_of_the_period() -> None:
    """An upgrade on the 11th spares that day: of the 31 units that stood, not of the 31 that came at the start."""
    part = Period(MARCH.from_, datetime(2024, 3, 11, 9, tzinfo=UTC))
    by = replace(BY, spares_last_day=True)
    for stood, units in ((datetime(2024, 2, 9, tzinfo=UTC), 10), (MARCH.from_, 11)):
        (fee,) = rate(
            compiled(prorated=True),
            [({}, summed((stood, "31")))],
            subscription_id="sub",
            rated=in_period(part, by=by),
        )
        assert (fee.units, fee.amount_cents) == (31, 100 * units)


def test_graduated_units_are_prorated_tier_by_tier() -> None:
    """5 units for the month at 10 and 5 for 15 of 31 days at 5, and the flat amounts of both tiers."""
    tiers = [
        {"from_value": 0, "to_value": 5, "per_unit_amount": "10", "flat_amount": "100"},
        {"from_value": 6, "to_value": None, "per_unit_amount": "5", "flat_amount": "50"},
    ]
    charge = compiled(model=ChargeModel.GRADUATED, properties={"graduated_ranges": tiers}, prorated=True)
    (fee,) = fees(charge, ({}, summed((day(1), "5"), (day(17), "5"))))
    assert (fee.units, fee.amount_cents, fee.amount_details) == (10, 21_210, {})
    assert fee.precise_unit_amount == Decimal("21.209677419354839")


def test_a_negative_sum_costs_nothing() -> None:
    (fee,) = fees(compiled(prorated=True), ({}, summed((day(3), "4"), (day(30), "-5"))))
    assert (fee.units, fee.amount_cents) == (0, 0)


def test_the_day_of_an_upgrade_is_spared_in_arrears_and_paid_by_a_renewal() -> None:
    """A renewal was paid before anybody knew of the upgrade: what it comes to stays the same afterwards."""
    spared = Proration("UTC", 31, spares_last_day=True)
    base = summed((day(1, month=2), "31"))

    def cents(charge: CompiledCharge, by: Proration) -> int:
        (fee,) = rate(charge, [({}, base)], subscription_id="sub", rated=in_period(MARCH, by=by))
        return fee.amount_cents

    charge = compiled(prorated=True)
    renewal = replace(charge, is_renewal=True)
    assert (cents(charge, BY), cents(charge, spared)) == (3_100, 3_000)
    assert (cents(renewal, BY), cents(renewal, spared)) == (3_100, 3_100)


def test_a_renewal_is_paid_in_advance_and_has_no_idle_fees_on_a_bill() -> None:
    renewal = replace(compiled(), is_renewal=True)
    (fee,) = rate(renewal, [({}, summed((day(3), "4")))], subscription_id="sub", rated=in_period(MARCH))
    assert (fee.units, fee.pay_in_advance) == (4, True)
    assert rate(renewal, [], subscription_id="sub", rated=in_period(MARCH), with_idle=False) == []


@pytest.mark.parametrize(
    ("least", "period", "used", "missing", "precise"),
    [
        (1000, MARCH, "7", 300, "300"),
        (1000, Period(day(17), MARCH.to), "2", 284, "283.870967741935484"),
        (1000, Period(day(15), MARCH.to), None, 548, "548.387096774193548"),
        (1000, MARCH, "9.996", None, None),
        (1000, MARCH, "9.994", 1, "0.6"),
        (1000, MARCH, "25", None, None),
        (0, MARCH, None, None, None),
    ],
)
def test_what_is_missing(
    least: int, period: Period, used: str | None, missing: int | None, precise: str | None
) -> None:
    charge = compiled(min_amount_cents=least)
    series: list[Any] = [] if used is None else [({}, summed((day(20), used)))]
    found = true_up_fee(charge, fees(charge, *series, period=period), rated=in_period(period, by=BY))
    if missing is None:
        assert found is None
        return
    assert found is not None
    assert (found.is_true_up, found.units, found.events_count) == (True, 1, 0)
    assert (found.amount_cents, found.unit_amount_cents) == (missing, missing)
    assert found.precise_amount_cents == Decimal(precise or "")
    assert found.precise_unit_amount == Decimal(missing) / 100
    assert (found.from_, found.to) == (period.from_, period.to)


def test_without_a_minimum_charge_nothing_is_missing() -> None:
    charge = compiled()
    assert true_up_fee(charge, fees(charge), rated=in_period(MARCH, by=BY)) is None


def test_the_minimum_charge_is_of_all_filters_and_groups() -> None:
    charge = compiled(
        properties={"amount": "1", "pricing_group_keys": ["team"]}, filters=[EU], min_amount_cents=2_000
    )
    own = fees(
        charge,
        ({"region": "eu", "team": "a"}, summed((day(2), "3"))),
        ({"region": "us", "team": "a"}, summed((day(2), "4"))),
        ({"region": "us", "team": "b"}, summed((day(2), "5"))),
    )
    found = true_up_fee(charge, own, rated=in_period(MARCH, by=BY))
    assert found is not None
    assert found.amount_cents == 2_000 - (600 + 400 + 500)
    assert (found.charge_filter_id, found.grouped_by, found.amount_details) == (None, {}, {})
