"""Rounding a charge's lines together, against fractions that are rounded once."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from hypothesis import given, strategies as st

from permille.core.invoice.late_usage import difference, line_of
from permille.core.metering import aggregations
from permille.core.metering.usage import AdvanceEvent, Partial
from permille.core.money import CURRENCIES, subunits
from permille.core.period import Period
from permille.core.rating.advance import event_fees
from permille.core.rating.charge import CompiledCharge, compile_charge
from permille.core.rating.fee import Fee, carry_fee_on
from permille.core.rating.minimum_charge import true_up_fee
from permille.core.rating.models import ChargeModel
from permille.core.rating.pricing_unit import AppliedPricingUnit, Owed, PricingUnit, owed
from permille.core.rating.projection import project_all
from permille.core.rating.proration import Proration
from permille.core.rating.rate import rate
from permille.core.rating.rounding import NOTHING_EARLIER, Rounding, carry_on, round_together, sum_of_lines
from permille.core.record import replace
from tests.core.given import in_period

from .given import decimals

JUNE = Period(datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC))
BY = Proration("UTC", 30)
CREDITS = PricingUnit(
    id=UUID(int=1), code="cr", name="CR", short_name="CR", description=None, created_at=JUNE.from_
)

amounts = st.lists(decimals("0", "0.05", 7), max_size=15)
rates = st.none() | decimals("0.0001", "3", 4)
currencies = st.sampled_from(["USD", "JPY", "KWD", "CLF", "MRO"])


def half_away(value: Fraction) -> int:
    whole = (2 * abs(value) + 1).__floor__() // 2
    return whole if value >= 0 else -whole


def applied(rate: Decimal | None) -> AppliedPricingUnit | None:
    return AppliedPricingUnit(unit=CREDITS, conversion_rate=rate) if rate is not None else None


def lines_of(drawn: list[Decimal], currency: str, rate: Decimal | None) -> list[Owed]:
    return [owed(each, each, per_unit=subunits(currency), applied=applied(rate)) for each in drawn]


def slow_total(drawn: list[Decimal], currency: str, rate: Decimal | None) -> int:
    """All lines as one: in a unit rounded to its hundredths, then converted and rounded to the currency."""
    whole = sum(map(Fraction, drawn), Fraction(0))
    if rate is not None:
        whole = Fraction(half_away(whole * 100), 100) * Fraction(rate)
    return half_away(whole * subunits(currency))


@given(amounts, currencies, rates)
def test_the_lines_of_a_bill_sum_to_what_one_line_of_all_would_be(
    drawn: list[Decimal], currency: str, rate: Decimal | None
) -> None:
    lines = lines_of(drawn, currency, rate)
    found = round_together(lines, per_unit=subunits(currency))
    assert sum(line.money.amount_cents for line in found) == slow_total(drawn, currency, rate)
    for before, after in zip(lines, found, strict=True):
        assert abs(after.money.amount_cents - after.money.precise_amount_cents) < 1
        assert after.money.precise_unit_amount == before.money.precise_unit_amount
        if before.in_unit and after.in_unit:
            assert after.in_unit.amounts.precise_amount_cents == before.in_unit.amounts.precise_amount_cents
        else:
            assert after.money.precise_amount_cents == before.money.precise_amount_cents
    assert round_together(found, per_unit=subunits(currency)) == found, "rounding again changes nothing"


@given(amounts, currencies, rates)
def test_fees_that_carry_on_are_the_rounded_sum_at_every_moment(
    drawn: list[Decimal], currency: str, rate: Decimal | None
) -> None:
    earlier, cents = NOTHING_EARLIER, 0
    for count, line in enumerate(lines_of(drawn, currency, rate), 1):
        made = carry_on(line, earlier, per_unit=subunits(currency))
        earlier = earlier.with_line(made)
        cents += made.money.amount_cents
        assert made.money.amount_cents >= 0
        assert cents == slow_total(drawn[:count], currency, rate)


def charge(rounding: Rounding = Rounding.PER_CHARGE, **fields: Any) -> CompiledCharge:
    given: dict[str, Any] = {
        "charge_id": "c",
        "model": ChargeModel.STANDARD,
        "properties": {"amount": "0.004", "pricing_group_keys": ["user"]},
        "filters": (),
        "aggregation": aggregations.COUNT,
        "currency": "USD",
        "rounding": rounding,
    }
    return compile_charge(**{**given, **fields})


def used(counts: list[int]) -> list[tuple[dict[str, str | None], Partial]]:
    return [({"user": f"u{n:04}"}, Partial(events_count=count)) for n, count in enumerate(counts)]


def fees_of(compiled: CompiledCharge, counts: list[int], **more: Any) -> list[Fee]:
    return rate(compiled, used(counts), subscription_id="s", **more, rated=in_period(JUNE, by=BY))


def test_a_thousand_groups_at_less_than_half_a_cent_are_billed() -> None:
    alone, together = fees_of(charge(Rounding.PER_FEE), [1] * 1_000), fees_of(charge(), [1] * 1_000)
    assert sum(fee.amount_cents for fee in alone) == 0
    assert sum(fee.amount_cents for fee in together) == 400
    assert {fee.precise_amount_cents for fee in together} == {Decimal("0.4")}
    assert {fee.amount_cents for fee in together} == {0, 1}
    assert [fee.units for fee in together] == [fee.units for fee in alone]


@given(
    st.lists(st.integers(1, 400), max_size=10),
    decimals("0", "0.02", 6),
    currencies,
    rates,
    st.integers(0, 300),
)
def test_groups_and_the_true_up_sum_to_the_price_of_all_and_at_least_to_the_minimum(
    counts: list[int], price: Decimal, currency: str, rate: Decimal | None, least: int
) -> None:
    properties = {"amount": f"{price:f}", "pricing_group_keys": ["user"]}
    compiled = charge(
        properties=properties, currency=currency, applied_pricing_unit=applied(rate), min_amount_cents=least
    )
    fees = fees_of(compiled, counts)
    drawn = [price * count for count in counts]
    assert sum(fee.amount_cents for fee in fees) == slow_total(drawn, currency, rate)
    missing = true_up_fee(compiled, fees, rated=in_period(JUNE, by=BY))
    if missing is None:
        return
    whole = [*fees, missing]
    floor = Decimal(least) / (100 if rate is not None else subunits(currency))
    assert sum(fee.amount_cents for fee in whole) == slow_total([floor], currency, rate)
    assert sum(fee.priced_cents[0] for fee in whole) == least


@given(st.lists(st.integers(1, 99), min_size=1, max_size=8), st.integers(1, 29))
def test_projections_are_rounded_together_too(counts: list[int], days: int) -> None:
    compiled = charge()
    found = project_all(compiled, fees_of(compiled, counts), recurring=False, elapsed=Fraction(days, 30))
    units = sum((each.units for each in found), Decimal(0))
    assert sum(each.amount_cents for each in found) == half_away(Fraction(units) * Fraction(4, 10))


def test_a_flat_amount_below_a_cent_counts_without_usage() -> None:
    tiers = [{"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0.006"}]
    compiled = charge(model=ChargeModel.GRADUATED, properties={"graduated_ranges": tiers})
    (fee,) = rate(compiled, [], subscription_id="s", with_idle=False, rated=in_period(JUNE))
    assert (fee.amount_cents, fee.precise_amount_cents) == (1, Decimal("0.6"))
    tiers[0]["flat_amount"] = "0.004"
    small = charge(model=ChargeModel.GRADUATED, properties={"graduated_ranges": tiers})
    (fee,) = rate(small, [], subscription_id="s", with_idle=False, rated=in_period(JUNE))
    assert small.is_billed(fee)
    alone = charge(Rounding.PER_FEE, model=ChargeModel.GRADUATED, properties={"graduated_ranges": tiers})
    assert rate(alone, [], subscription_id="s", with_idle=False, rated=in_period(JUNE)) == []
    assert not alone.is_billed(replace(fee, rounding=Rounding.PER_FEE))


@given(st.lists(st.tuples(decimals("0", "9", 2), st.sampled_from("ab")), max_size=20), currencies, rates)
def test_fees_of_events_sum_to_the_usage_that_they_are_of(
    drawn: list[tuple[Decimal, str]], currency: str, rate: Decimal | None
) -> None:
    """Events of two groups, whose fees carry on from each other across the groups."""
    compiled = charge(
        aggregation=aggregations.SUM,
        properties={"amount": "0.0037", "pricing_group_keys": ["user"]},
        currency=currency,
        pay_in_advance=True,
        applied_pricing_unit=applied(rate),
    )
    events = [
        AdvanceEvent(seq=n, at=JUNE.from_, dimensions={"user": user}, value=value, text=None, is_add=True)
        for n, (value, user) in enumerate(drawn)
    ]
    made, _ = event_fees(
        compiled,
        events,
        billed=range(len(events)),
        carried_over={},
        subscription_id="s",
        period=JUNE,
        proration=BY,
    )
    earlier, cents = NOTHING_EARLIER, 0
    for count, (_, fee) in enumerate(made, 1):
        carried = carry_fee_on(fee, earlier, per_unit=compiled.subunits)
        earlier, cents = earlier.with_line(carried.owed), cents + carried.amount_cents
        values = [value * Decimal("0.0037") for value, _ in drawn[:count]]
        assert cents == slow_total(values, currency, rate)
    assert sum_of_lines(()) == NOTHING_EARLIER


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9)), min_size=1, max_size=8))
def test_late_usage_moves_no_cents_between_lines_that_it_is_not_of(drawn: list[tuple[int, int]]) -> None:
    compiled = charge()
    before = fees_of(compiled, [count for count, _ in drawn])
    after = fees_of(compiled, [count + late for count, late in drawn])
    found = difference(map(line_of, after), map(line_of, before))
    late = {f"u{n:04}" for n, (_, more) in enumerate(drawn) if more}
    assert {line.grouped_by["user"] for line in found} == late
    cents = [sum(fee.amount_cents for fee in fees) for fees in (before, after)]
    assert sum(line.amount_cents for line in found) == cents[1] - cents[0]


def test_every_currency_can_be_rounded() -> None:
    for currency in CURRENCIES:
        lines = lines_of([Decimal("0.1")] * 3, currency, None)
        found = round_together(lines, per_unit=subunits(currency))
        assert sum(line.money.amount_cents for line in found) == half_away(
            Fraction(3, 10) * subunits(currency)
        )
