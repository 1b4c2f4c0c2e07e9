"""Prorated units and the graduated price of them: the vectors of semantics-metering.md 7.6 and 7.12, and a slow oracle."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from permille.core.metering.usage import Operation
from permille.core.money import exact, minor, round_cents
from permille.core.period import Period
from permille.core.rating.models import ChargeModel, Quantity, pricer
from permille.core.rating.models.graduated import prorated_amount, read_tiers
from permille.core.rating.proration import Proration, prorate_sum, prorate_uniques, proration_by

MARCH = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
UTC_MARCH = Proration("UTC", 31)


def at(day: int, hour: int = 10, month: int = 3) -> datetime:
    return datetime(2024, month, day, hour, tzinfo=UTC)


def add(day: int, value: str = "a", *, month: int = 3, hour: int = 10, order: int = 0) -> Operation:
    return at(day, hour, month), order, value, True


def remove(day: int, value: str = "a", *, month: int = 3, hour: int = 12, order: int = 1) -> Operation:
    return at(day, hour, month), order, value, False


@pytest.mark.parametrize(
    ("base", "values", "expected"),
    [
        ("5", [(26, "12"), (26, "12")], "9.64517"),
        ("5", [(26, "12"), (26, "12"), (31, "4.5")], "9.79033"),
        ("0", [(31, "8"), (31, "12")], "0.64517"),
        ("5", [], "5"),
        ("0", [(1, "-3")], "-3"),
    ],
)
def test_sums(base: str, values: list[tuple[int, str]], expected: str) -> None:
    instances = [(at(day), number, Decimal(value)) for number, (day, value) in enumerate(values)]
    found = prorate_sum(Decimal(base), instances, period=MARCH, by=UTC_MARCH)
    assert found.units == Decimal(expected)


def test_a_sum_over_a_part_of_the_period() -> None:
    part = Period(at(15, 0), MARCH.to)
    assert prorate_sum(Decimal(5), [], period=part, by=UTC_MARCH).units == Decimal("2.74194")


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([add(1, "old", month=2), add(11)], "1.67742"),
        ([add(2), remove(30)], "0.93549"),
        ([add(5), remove(5), add(5, hour=14, order=2), remove(5, hour=16, order=3)], "0.03226"),
        ([op for day in (3, 9, 20) for op in (add(day), remove(day))], "0.09678"),
        ([add(1), add(4), add(9)], "1"),
        ([add(1, month=2), remove(10, month=2)], "0"),
        ([remove(4)], "0"),
        ([add(1, month=2), remove(1)], "0.03226"),
        ([add(3), remove(8, order=1), add(8, hour=13, order=2)], "0.93549"),
    ],
)
def test_uniques(operations: list[Operation], expected: str) -> None:
    assert prorate_uniques(operations, period=MARCH, by=UTC_MARCH).units == Decimal(expected)


def test_days_are_the_customers() -> None:
    tokyo = Proration("Asia/Tokyo", 31)
    period = Period(datetime(2024, 2, 29, 15, tzinfo=UTC), datetime(2024, 3, 31, 15, tzinfo=UTC))
    late = datetime(2024, 3, 30, 16, tzinfo=UTC)  # the 31st in Tokyo
    found = prorate_sum(Decimal(0), [(late, 1, Decimal(31))], period=period, by=tokyo)
    assert found.units == Decimal(1)


def test_without_a_value_is_a_value_of_its_own() -> None:
    operations = [add(11), (at(21), 1, None, True)]
    assert prorate_uniques(operations, period=MARCH, by=UTC_MARCH).units == Decimal("1.03226"), "21 + 11 days"


def test_changes_of_one_instant_are_in_the_order_of_arrival() -> None:
    values = [(at(1), 2, Decimal(-3)), (at(1), 1, Decimal(5))]
    found = prorate_sum(Decimal(0), values, period=MARCH, by=UTC_MARCH)
    assert [whole for whole, _ in found.changes] == [5, -3]


def test_hours_gained_by_a_move_to_another_timezone_are_no_day() -> None:
    longer = Period(datetime(2024, 2, 29, 15, tzinfo=UTC), MARCH.to)
    standing = [(datetime(2024, 2, 1, tzinfo=UTC), 0, "a", True)]
    assert UTC_MARCH.days(longer) == 31
    assert UTC_MARCH.share(1_000, longer) == 1_000
    assert prorate_uniques(standing, period=longer, by=UTC_MARCH).units == 1


def test_an_upgrade_spares_the_last_day_of_what_was_carried_over() -> None:
    part = Period(MARCH.from_, at(16, 11))
    by = Proration("UTC", 31, spares_last_day=True)
    assert prorate_uniques([add(1, month=2)], period=part, by=by).units == Decimal("0.48388")
    assert prorate_uniques([add(16)], period=part, by=by).changes == ()
    assert prorate_uniques([add(2), remove(16, hour=10)], period=part, by=by).units == Decimal("0.48388")
    found = prorate_sum(Decimal(62), [(at(15), 1, Decimal(31))], period=part, by=by)
    changes: Any = found.changes
    assert changes == ((62, 62 * 15), (31, 31 * 2)), "but not of what came in the period"
    assert by.share(3_100, part) == 1_500


def days_there(operations: list[Operation]) -> int:
    """Day by day: was the value there at any moment of the day?"""
    ordered = sorted(operations)
    found = 0
    for day in range(31):
        start = MARCH.from_ + timedelta(days=day)
        end = start + timedelta(days=1)
        there = False
        present = False
        for when, _, _, is_add in ordered:
            if when >= end:
                break
            if when < start:
                present = is_add
            else:
                there = there or present or is_add
                present = is_add
        found += there or present
    return found


@given(
    st.lists(
        st.tuples(st.integers(0, 60 * 24 * 4), st.booleans()), unique_by=lambda pair: pair[0], max_size=8
    )
)
def test_a_value_counts_for_the_days_on_which_it_was_there(drawn: list[tuple[int, bool]]) -> None:
    begin = datetime(2024, 2, 10, tzinfo=UTC)
    operations = [
        (begin + timedelta(minutes=15 * quarter), number, "a", is_add)
        for number, (quarter, is_add) in enumerate(sorted(drawn))
    ]
    found = prorate_uniques(operations, period=MARCH, by=UTC_MARCH)
    exact = Fraction(days_there([*operations]), 31)
    assert 0 <= Fraction(found.units) - exact < Fraction(1, 100_000)


TWO = [
    {"from_value": 0, "to_value": 5, "per_unit_amount": "10", "flat_amount": "100"},
    {"from_value": 6, "to_value": None, "per_unit_amount": "5", "flat_amount": "50"},
]
THREE: list[Any] = [
    TWO[0],
    {"from_value": 6, "to_value": 15, "per_unit_amount": "5", "flat_amount": "50"},
    {"from_value": 16, "to_value": None, "per_unit_amount": "2", "flat_amount": "0"},
]


@pytest.mark.parametrize(
    ("tiers", "whole", "shares", "expected"),
    [
        (TWO, [5, 5, 10, -6], ["3.5", "2.66667", "2", "-2.2"], "197.33"),
        (TWO, [2, 5, 10, -6], ["1.4", "2.66667", "2", "-2.2"], "184.33"),
        (TWO, [4, 2, -3], ["2.8", "1", "-.6"], "180.5"),
        (TWO, [5, 2, -4, 10], ["3.5", "1", "-1.6", "2"], "190"),
        (TWO, [5, -2], ["3.5", "-1"], "125"),
        (TWO, [5, -100], ["2", "-33.33"], "0"),
        (TWO, [1], [".7"], "107"),
        (TWO, [], [], "100"),
        (THREE, [2, 5, 10, -6, 4, 60], ["1.4", "2.5", "2", "-2.2", ".667", "2"], "191.34"),
        (THREE, [75], ["75"], "370"),
        # what counts for no day does not come, and goes only as far as there is something
        (TWO, [5, 3], ["0", "1.5"], "115"),
        (TWO, [1, 5], ["0", "2.5"], "125"),
        (TWO, [-3, 4], ["0", "2"], "120"),
        (TWO, [-3, 2], ["0", "1"], "110"),
        (TWO, [3, -3, 4], ["1.5", "0", "2"], "135"),
        (TWO, [5, 0], ["3.5", "0"], "135"),
        (TWO, [5, -5], ["3.5", "-1"], "125"),
    ],
)
def test_graduated(tiers: list[dict[str, Any]], whole: list[int], shares: list[str], expected: str) -> None:
    changes = [(Decimal(a), Decimal(b)) for a, b in zip(whole, shares, strict=True)]
    units = sum((share for _, share in changes), Decimal(0))
    found = prorated_amount(read_tiers(tiers, rate="per_unit_amount"), units, changes)
    assert abs(found - Decimal(expected)) < Decimal("0.006")


@given(st.lists(st.integers(-8, 12), max_size=10))
def test_whole_periods_cost_what_the_level_costs(drawn: list[int]) -> None:
    """Changes that all stand for the whole period: the plain graduated price, but for flat amounts of the highest."""
    level, changes = 0, []
    for change in drawn:
        if change and level + change >= 0:
            changes.append((Decimal(change), Decimal(change)))
            level += change
    tiers = read_tiers(THREE, rate="per_unit_amount")
    found = prorated_amount(tiers, Decimal(level), changes)
    highest = max([0, *(sum(int(whole) for whole, _ in changes[: n + 1]) for n in range(len(changes)))])
    flats = 100 + (50 if highest > 5 else 0)
    units = 10 * min(level, 5) + 5 * max(min(level, 15) - 5, 0) + 2 * max(level - 15, 0)
    assert found == (units + flats if level else 100)


@st.composite
def prorated_changes(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Changes and the days, of 30, that each of them counts; a level never falls below nothing."""
    level, changes, days = 0, [], 30
    for change in draw(st.lists(st.integers(-12, 14).filter(bool), max_size=8)):
        days = draw(st.integers(1, days))
        if level + change >= 0:
            changes.append((change, days))
            level += change
    return changes


def unit_by_unit(changes: list[tuple[int, int]]) -> Fraction:
    """Each unit has its place: it pays the price of the place when it comes and gets it back when it goes."""
    level = highest = 0
    total = Fraction(0)
    for change, days in changes:
        for _ in range(abs(change)):
            place = level + 1 if change > 0 else level
            rate = 10 if place <= 5 else 5 if place <= 15 else 2
            total += Fraction(rate * days, 30) * (1 if change > 0 else -1)
            level += 1 if change > 0 else -1
        highest = max(highest, level)
    return max(total, Fraction(0)) + 100 + (50 if highest > 5 else 0)


@given(prorated_changes())
def test_each_unit_is_priced_by_its_place_and_its_days(drawn: list[tuple[int, int]]) -> None:
    with exact():
        changes = [(Decimal(change), Decimal(change * days)) for change, days in drawn]
        units = sum((share for _, share in changes), Decimal(0))
        found = prorated_amount(read_tiers(THREE, rate="per_unit_amount"), units, changes, days=30)
    if units:
        assert abs(Fraction(found) - unit_by_unit(drawn)) < Fraction(1, 10**30)
    else:
        assert found == 100


@pytest.mark.parametrize(
    ("change", "days", "cents"), [(1, 5, 10_038), (3, 3, 10_068), (8, 21, 15_828), (24, 7, 15_723)]
)
def test_half_a_cent_of_28ths_is_rounded_up(change: int, days: int, cents: int) -> None:
    """One unit of 2.10 for 5 days of 28 is 0.375."""
    tiers = [
        {"from_value": 0, "to_value": 7, "per_unit_amount": "2.1", "flat_amount": "100"},
        {"from_value": 8, "to_value": None, "per_unit_amount": "1.8", "flat_amount": "45.9"},
    ]
    since = datetime(2025, 3, 1, tzinfo=UTC) - timedelta(days=days)
    february = Period(datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC))
    prorated = prorate_sum(
        Decimal(0), [(since, 1, Decimal(change))], period=february, by=Proration("UTC", 28)
    )
    price = pricer(ChargeModel.GRADUATED, {"graduated_ranges": tiers})
    with exact():
        found = price(
            Quantity(
                units=prorated.units,
                full_units=Decimal(change),
                changes=prorated.changes,
                days_in_period=28,
            )
        )
    assert round_cents(minor(found.amount, "EUR")) == cents


def test_thirds_of_days_add_up_to_days() -> None:
    three = Proration("UTC", 3)
    period = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC))
    values = [(at(2), n, Decimal(1)) for n in range(3)]
    assert prorate_sum(Decimal(0), values, period=period, by=three).units == 2


@given(
    st.lists(st.tuples(st.integers(0, 31 * 24 - 1), st.decimals(-9, 9, places=3)), max_size=12),
    st.decimals(-9, 9, places=1),
    st.sampled_from(["UTC", "Asia/Kolkata", "America/Los_Angeles"]),
)
def test_the_sums_of_days_cost_what_their_events_cost(
    changes: list[tuple[int, Decimal]], base: Decimal, timezone: str
) -> None:
    """March 2024 from the UTC midnight on; the oracle divides exact fractions."""
    start = datetime(2024, 3, 1, tzinfo=UTC)
    period = Period(start, start + timedelta(days=31))
    by = Proration(timezone, 31)
    values = [(start + timedelta(hours=hour), n, value) for n, (hour, value) in enumerate(changes)]
    days: dict[date, tuple[datetime, int, Decimal]] = {}
    for when, _, value in sorted(values):
        day = when.astimezone(ZoneInfo(timezone)).date()
        first = days.get(day, (when, 0, Decimal(0)))
        days[day] = (first[0], 0, first[2] + value)
    exact_units = Fraction(base) * by.days(period) / 31 + sum(
        Fraction(value) * by.days_between(when, period.to - timedelta(microseconds=1)) / 31
        for when, _, value in values
    )
    units = prorate_sum(base, values, period=period, by=by).units
    assert units == Fraction(ceil(exact_units * 10**5), 10**5)
    assert prorate_sum(base, days.values(), period=period, by=by).units == units


def test_values_that_come_and_go_in_between_are_distinguished() -> None:
    operations = [add(1, "a"), add(2, "b"), remove(10, "a"), remove(20, "b")]
    assert prorate_uniques(operations, period=MARCH, by=UTC_MARCH).units == Decimal(
        "0.93549"
    )  # 10 + 19 of 31
    empty_and_none = [add(1, ""), (at(2), 0, None, True), remove(10, ""), (at(20), 1, None, False)]
    assert prorate_uniques(empty_and_none, period=MARCH, by=UTC_MARCH).units == Decimal("0.93549")


def test_of_one_instant_the_arrival_decides_however_they_are_given() -> None:
    operations = [(at(5), 2, "a", False), (at(5), 1, "a", True)]
    found = prorate_uniques(operations, period=MARCH, by=UTC_MARCH)
    assert found.units == Decimal("0.03226")
    assert [change for change, _ in found.changes] == [1, -1]


def test_what_goes_at_the_very_bounds_of_the_period() -> None:
    def units(*operations: Operation) -> Decimal:
        return prorate_uniques(operations, period=MARCH, by=UTC_MARCH).units

    assert units(add(1, month=2), (MARCH.from_, 1, "a", False)) == Decimal("0.03226")
    whole = prorate_uniques([add(11), (MARCH.to, 1, "a", False)], period=MARCH, by=UTC_MARCH)
    assert (whole.units, len(whole.changes)) == (Decimal("0.67742"), 1)
    noon = Period(MARCH.from_, at(31, 12))
    assert prorate_uniques([(noon.to, 0, "a", True)], period=noon, by=UTC_MARCH).units == 0


def test_the_days_of_a_whole_period_are_the_customers() -> None:
    assert proration_by(MARCH, "UTC") == Proration("UTC", 31)
    tokyo = Period(datetime(2024, 2, 29, 15, tzinfo=UTC), datetime(2024, 3, 31, 15, tzinfo=UTC))
    assert proration_by(tokyo, "Asia/Tokyo", spares_last_day=True) == Proration("Asia/Tokyo", 31, True)
