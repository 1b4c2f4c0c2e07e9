"""The difference between what a period comes to and what was billed of it, and the fee that bills it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import given, strategies as st

from permille.core.invoice.late_usage import (
    Line,
    adjustment_fee,
    difference,
    of_commitment,
    totals,
    with_changed_usage,
    with_commitment,
    with_usage,
)
from permille.core.period import Period
from permille.core.rating.pricing_unit import AppliedPricingUnit, PricingUnit
from permille.core.record import replace

MARCH = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))


def line(units: str, cents: int, events: int = 1, *, to: str | None = "a", **fields: Any) -> Line:
    found = Line(
        charge_filter_id=to,
        grouped_by={},
        is_true_up=False,
        units=Decimal(units),
        events_count=events,
        amount_cents=cents,
        precise_amount_cents=Decimal(cents),
    )
    return replace(found, **fields)


def test_places_are_distinguished_and_those_without_a_change_left_out() -> None:
    now = [
        line("5", 50),
        line("1", 10, to=None),
        line("2", 20, grouped_by={"k": "v"}),
        line("0", 9, is_true_up=True),
    ]
    before = [line("3", 30), line("1", 10, to=None), line("4", 40, to="gone")]
    found = difference(now, before)
    assert [(each.charge_filter_id, dict(each.grouped_by), each.is_true_up) for each in found] == [
        ("a", {}, False),
        ("a", {"k": "v"}, False),
        ("a", {}, True),
        ("gone", {}, False),
    ]
    assert [(each.units, each.events_count, each.amount_cents) for each in found] == [
        (2, 0, 20),
        (2, 1, 20),
        (0, 1, 9),
        (-4, -1, -40),
    ]
    assert totals(found) == (1, Decimal(0), 9)


def test_events_that_cost_nothing_are_late_all_the_same() -> None:
    assert difference([line("5", 0, events=2)], [line("5", 0)]) == [line("0", 0)]
    assert difference([line("5", 7)], [line("5", 7)]) == []


def test_lines_that_only_cost_something_else_are_no_usage() -> None:
    lines = [line("0", 5, events=0), line("2", 0, events=0), line("0", 0)]
    assert with_usage(lines, []) == lines[1:]
    least = line("0", 7, events=0, to=None, is_true_up=True)
    assert with_usage([lines[0], least], [least]) == [], "a minimum changes beside usage only"


def test_usage_at_corrected_prices_is_no_late_usage_whatever_dates_split_it() -> None:
    split = [line("-2", -20, events=-2, grouped_by={"model": "m", "price_since": None})] + [
        line("1", cents, grouped_by={"model": "m", "price_since": since})
        for since, cents in (("2024-03-01", 8), ("2024-03-20", 6))
    ]
    assert with_changed_usage(split, []) == []
    other = line("1", 0, grouped_by={"model": "other"})
    assert with_changed_usage([*split, other], []) == [other]
    more = [*split, line("1", 5, grouped_by={"model": "m", "price_since": "2024-03-20"})]
    assert with_changed_usage([*more, other], []) == [*more, other]
    least = line("0", 6, events=0, is_true_up=True)
    assert with_changed_usage([*split, other, least], [least]) == [other]
    assert with_changed_usage([*split, least], []) == []


@given(
    minimum=st.integers(0, 100),
    billed=st.integers(0, 150),
    late=st.lists(st.integers(-20, 60), min_size=1, max_size=4),
    repriced=st.integers(-50, 50),
)
def test_what_is_late_beside_another_price_comes_to_the_minimum_or_all_usage_as_it_was_priced(
    minimum: int, billed: int, late: list[int], repriced: int
) -> None:
    """Each late amount is decided before the next one comes; the price of what was billed has changed by `repriced`."""
    least = line("0", max(minimum - billed, 0), events=0, to=None, is_true_up=True)
    before, used = [line("9", billed), least], billed
    for number, cents in enumerate(late):
        lines = [
            line("0", repriced, events=0),
            line("1", cents, to=str(number)),
            replace(least, amount_cents=3),
        ]
        found = with_usage(lines, before)
        assert [each.charge_filter_id for each in found if not each.is_true_up] == [str(number)]
        before += found
        was, used = used, used + cents
        if was >= minimum and used < was:  # what was above the minimum is not known any more
            return
        assert sum(each.amount_cents for each in before) == max(minimum, used)


@given(st.lists(st.integers(-50, 100), max_size=6), st.integers(-20, 200))
def test_late_usage_and_what_it_takes_of_a_commitment_come_to_what_is_above_it(
    more: list[int], billed: int
) -> None:
    """`billed` is what the period was billed up to its commitment."""
    left, owed = billed, 0
    for cents in more:
        found = with_commitment([line("1", cents)], left)
        taken = of_commitment(found)
        assert 0 <= taken <= max(left, 0)
        left, owed = left - taken, owed + totals(found)[2]
    above = sum(cents for cents in more if cents > 0) - max(billed, 0)
    assert owed == max(above, 0) + sum(cents for cents in more if cents < 0)


def test_what_is_less_of_a_commitment_is_a_fee_of_that_kind() -> None:
    *_, taken = with_commitment([line("1", 300)], 200)
    found = fee(taken)
    assert (found.kind, found.units, found.amount_cents) == ("commitment", 1, -200)
    assert (found.from_, found.to, found.late_usage_id) == (MARCH.from_, MARCH.to, "L")
    assert (found.unit_amount_cents, found.precise_unit_amount) == (-200, Decimal(-2))


def test_differences_add_up_whatever_is_decided_first() -> None:
    first = difference([line("5", 50)], [line("3", 30)])
    assert difference([line("9", 95)], [line("3", 30), *first]) == [line("4", 45, events=0)]


def fee(of: Line, applied: AppliedPricingUnit | None = None):
    return adjustment_fee(
        of,
        late_usage_id="L",
        subscription_id="s",
        charge_id="c",
        period=MARCH,
        currency="EUR",
        applied=applied,
    )


def test_units_times_price_is_the_amount() -> None:
    found = fee(line("4", 50))
    assert (found.units, found.precise_unit_amount, found.amount_cents) == (4, Decimal("0.125"), 50)
    assert (found.unit_amount_cents, found.events_count, found.late_usage_id) == (12, 1, "L")
    assert (found.from_, found.to, found.kind) == (MARCH.from_, MARCH.to, "charge")
    found = fee(line("0", -300, is_true_up=True))
    assert (found.units, found.precise_unit_amount, found.amount_cents) == (1, Decimal(-3), -300)


def test_a_pricing_unit_has_its_own_difference() -> None:
    unit = PricingUnit(
        id=UUID(int=1), code="cr", name="Credits", short_name="CR", description=None, created_at=MARCH.from_
    )
    applied = AppliedPricingUnit(unit=unit, conversion_rate=Decimal("0.5"))
    now = line("4", 50, unit_cents=(100, Decimal("100.4")))
    (missing,) = difference([now], [line("2", 25, unit_cents=(50, Decimal("50.2")))])
    assert missing.unit_cents == (50, Decimal("50.2"))
    in_unit = fee(missing, applied).in_unit
    assert in_unit is not None
    assert in_unit.amounts == (50, Decimal("50.2"), 25, Decimal("0.25"))
    assert fee(missing).in_unit is None
