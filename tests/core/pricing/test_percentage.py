from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.money import exact
from permille.core.rating.models import ChargeModel, Price, Quantity, pricer, validate
from permille.core.rating.models.percentage import (
    allowance,
    counted_totals,
    needs_event_values,
    price_alone,
    running_totals,
)
from tests.core.given import decimals
from tests.core.pricing.table import priced

PERCENTAGE = ChargeModel.PERCENTAGE
BASE = {
    "rate": "1.3",
    "fixed_amount": "2",
    "free_units_per_events": 3,
    "free_units_per_total_aggregation": "250",
}
TOTALS = (50, 150, 400)


def after(values: Sequence[int | Decimal], properties: dict[str, Any]) -> Price:
    numbers = [Decimal(value) for value in values]
    return priced(
        PERCENTAGE,
        properties,
        str(sum(numbers)),
        events_count=len(numbers),
        running_totals=running_totals(numbers, properties),
        event_values=numbers,
    )


@pytest.mark.parametrize(
    ("changes", "units", "events_count", "totals", "amount", "free_units", "free_events"),
    [
        # semantics-metering.md 7.11
        ({}, "800", 4, TOTALS, "11.15", "250.0", 2),
        ({}, "0", 4, (), "0", "0.0", 3),
        ({"free_units_per_events": None}, "800", 4, TOTALS, "11.15", "250.0", 2),
        ({"free_units_per_total_aggregation": None}, "800", 4, TOTALS, "7.2", "400.0", 3),
        (
            {"free_units_per_events": None, "free_units_per_total_aggregation": None},
            "800",
            4,
            (),
            "18.4",
            "0.0",
            0,
        ),
        ({"free_units_per_total_aggregation": "500"}, "800", 4, TOTALS, "7.2", "400.0", 3),
        (
            {"rate": "0", "free_units_per_events": None, "free_units_per_total_aggregation": None},
            "800",
            4,
            (),
            "8",
            "0.0",
            0,
        ),
        (
            {"free_units_per_events": 5, "free_units_per_total_aggregation": None},
            "400",
            4,
            TOTALS,
            "0",
            "400.0",
            5,
        ),
    ],
)
def test_vectors(
    *,
    changes: dict[str, Any],
    units: str,
    events_count: int,
    totals: tuple[int, ...],
    amount: str,
    free_units: str,
    free_events: int,
) -> None:
    price = priced(
        PERCENTAGE,
        BASE | changes,
        units,
        events_count=events_count,
        running_totals=[Decimal(total) for total in totals],
    )
    assert price.amount == Decimal(amount)
    assert (price.details["free_units"], price.details["free_events"]) == (free_units, free_events)


def test_the_base_case_explains_itself() -> None:
    price = after([50, 100, 250, 400], BASE)
    assert price.unit_amount == Decimal("0.0139375")
    assert price.details == {
        "units": "800.0",
        "free_units": "250.0",
        "free_events": 2,
        "paid_units": "550.0",
        "rate": "1.3",
        "per_unit_total_amount": "7.15",
        "paid_events": 2,
        "fixed_fee_unit_amount": "2.0",
        "fixed_fee_total_amount": "4.0",
        "min_max_adjustment_total_amount": "0.0",
    }


def test_a_plain_rate() -> None:
    assert priced(PERCENTAGE, {"rate": "2.9"}, "4", events_count=1).amount == Decimal("0.116")


ONE_FIVE = {"rate": "1", "fixed_amount": "5"}


@pytest.mark.parametrize(
    ("allowance", "values", "cents"),
    [
        ({"free_units_per_events": 3}, [10] * 4, [0, 0, 0, 510]),
        ({"free_units_per_total_aggregation": "15.0"}, [4, 4, 4, 4, 10], [0, 0, 0, 501, 1011]),
        (
            {"free_units_per_events": 3, "free_units_per_total_aggregation": "15.0"},
            [1] * 4,
            [0, 0, 0, 501],
        ),
        (
            {"free_units_per_events": 3, "free_units_per_total_aggregation": "15.0"},
            [10] * 3,
            [0, 505, 1015],
        ),
        (
            {
                "fixed_amount": "1",
                "per_transaction_min_amount": "1.75",
                "per_transaction_max_amount": "12",
            },
            [100, 1000, 10_000],
            [200, 1300, 2500],
        ),
    ],
)
def test_usage_after_each_event(allowance: dict[str, Any], values: list[int], cents: list[int]) -> None:
    properties = ONE_FIVE | allowance
    got = [after(values[: n + 1], properties).amount * 100 for n in range(len(values))]
    assert got == cents


BOUNDED = {"rate": "2.99", "per_transaction_min_amount": "1.75", "per_transaction_max_amount": "12"}


@pytest.mark.parametrize(
    ("more", "amount"),
    [
        ({}, "16.142"),
        ({"fixed_amount": "2"}, "18.691"),
        ({"free_units_per_events": 2}, "12"),
        ({"free_units_per_total_aggregation": "30"}, "13.794"),
        ({"free_units_per_events": 3, "free_units_per_total_aggregation": "10000"}, "2.691"),
    ],
)
def test_events_priced_between_a_least_and_a_greatest_amount(more: dict[str, Any], amount: str) -> None:
    price = after([10, 80, 10_000], BOUNDED | more)
    assert price.amount == Decimal(amount)
    details = price.details
    parts = [details["per_unit_total_amount"], details["fixed_fee_total_amount"]]
    parts.append(details["min_max_adjustment_total_amount"])
    assert sum(map(Decimal, parts)) == price.amount


def test_bounds_without_any_event() -> None:
    assert after([], BOUNDED | {"fixed_amount": "1"}).amount == 0


amounts_of_events = st.lists(decimals(0, 500, 1), max_size=8)


@given(amounts_of_events, decimals(0, 10, 2), decimals(0, 5, 2), decimals(0, 3, 2), decimals(3, 9, 2))
def test_without_allowances_each_event_is_priced_and_bounded(
    values: list[Decimal], rate: Decimal, fixed: Decimal, least: Decimal, greatest: Decimal
) -> None:
    properties = {
        "rate": str(rate),
        "fixed_amount": str(fixed),
        "per_transaction_min_amount": str(least),
        "per_transaction_max_amount": str(greatest),
    }
    alone = [min(max(value * rate / 100 + fixed, least), greatest) for value in values]
    assert after(values, properties).amount == sum(alone)


terms = st.fixed_dictionaries(
    {
        "rate": decimals(0, 10, 2).map(str),
        "fixed_amount": st.none() | decimals(0, 5, 2).map(str),
        "free_units_per_events": st.none() | st.integers(1, 5),
        "free_units_per_total_aggregation": st.none() | decimals(0, 900, 1).map(str),
    }
)


def fractions(properties: dict[str, Any]) -> tuple[Fraction, Fraction, int, Fraction]:
    """Rate of 1, fixed amount, free events and free units."""
    return (
        Fraction(properties["rate"]) / 100,
        Fraction(properties["fixed_amount"] or 0),
        properties["free_units_per_events"] or 0,
        Fraction(properties["free_units_per_total_aggregation"] or 0),
    )


@given(amounts_of_events, terms)
def test_of_two_allowances_the_smaller_one_counts(values: list[Decimal], properties: dict[str, Any]) -> None:
    """semantics-metering.md 5.7, event by event: how many units, and how many events, either allowance covers."""
    rate, fixed, events, units = fractions(properties)
    by_events = sum(map(Fraction, values[:events]), Fraction(0))
    total = sum(map(Fraction, values), Fraction(0))
    within, reached = 0, Fraction(0)
    for value in values[:events] if events else values:
        reached += Fraction(value)
        within += reached < units
    free_units = min([each for on, each in ((events, by_events), (units, units)) if on] or [Fraction(0)])
    free_events = min([count for count in (events, within) if count] or [0])
    expected = max(total - free_units, Fraction(0)) * rate
    if total:
        expected += max(len(values) - free_events, 0) * fixed
    assert Fraction(after(values, properties).amount) == expected


@given(amounts_of_events, terms, decimals(0, 3, 2), decimals(3, 9, 2))
def test_bounded_events_are_free_while_either_allowance_lasts(
    values: list[Decimal], properties: dict[str, Any], least: Decimal, greatest: Decimal
) -> None:
    """Free units are used up by the event that reaches them, which pays for the rest of itself."""
    rate, fixed, events, units = fractions(properties)
    paid: list[Fraction] = []
    reached = Fraction(0)
    for number, value in enumerate(values, 1):
        before, reached = reached, reached + Fraction(value)
        if reached < units or (not units and number <= events):
            continue
        is_first = not paid and units
        paid.append(reached - units if is_first else reached - before)
    expected = sum(min(max(each * rate + fixed, Fraction(least)), Fraction(greatest)) for each in paid)
    bounds = {"per_transaction_min_amount": str(least), "per_transaction_max_amount": str(greatest)}
    assert Fraction(after(values, properties | bounds).amount) == expected


@given(amounts_of_events, terms, decimals(0, 100, 1))
def test_one_more_event_never_makes_the_rate_cheaper(
    values: list[Decimal], properties: dict[str, Any], more: Decimal
) -> None:
    by_rate = properties | {"fixed_amount": None}
    assert after([*values, more], by_rate).amount >= after(values, by_rate).amount


@given(amounts_of_events, st.integers(1, 5))
def test_the_first_events_are_free(values: list[Decimal], free: int) -> None:
    properties = ONE_FIVE | {"free_units_per_events": free}
    paid = values[free:]
    expected = sum(paid) / 100 + 5 * len(paid) if sum(values) else Decimal(0)
    assert after(values, properties).amount == expected


@given(amounts_of_events, st.integers(1, 1000))
def test_the_first_units_are_free(values: list[Decimal], free: int) -> None:
    properties = {"rate": "1", "free_units_per_total_aggregation": str(free)}
    expected = max(sum(values) - free, Decimal(0)) / 100
    assert after(values, properties).amount == expected


@given(amounts_of_events, st.integers(0, 5), st.integers(0, 1000))
def test_running_totals_are_those_of_the_free_events(values: list[Decimal], events: int, free: int) -> None:
    properties = {
        "rate": "1",
        "free_units_per_events": events or None,
        "free_units_per_total_aggregation": str(free) if free else None,
    }
    totals = running_totals(values, properties)
    every = list(accumulate(values))
    assert totals == every[: len(totals)]
    if events:
        assert len(totals) == min(events, len(values))
    elif free:
        assert all(total <= free for total in totals[:-1])
        assert len(totals) == len(values) or totals[-1] > free
    else:
        assert totals == []


def test_only_allowances_and_bounds_look_at_single_events() -> None:
    assert not needs_event_values({"rate": "1", "fixed_amount": "1"})
    assert needs_event_values({"rate": "1", "free_units_per_events": 1})
    assert needs_event_values({"rate": "1", "free_units_per_total_aggregation": "1"})
    assert needs_event_values({"rate": "1", "per_transaction_min_amount": "0"})


@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        ({}, ["invalid_rate"]),
        (BASE, []),
        (BOUNDED, []),
        (BOUNDED | {"per_transaction_max_amount": "1.75"}, []),
        (
            BOUNDED | {"per_transaction_max_amount": "1"},
            ["per_transaction_max_lower_than_per_transaction_min"],
        ),
        ({"rate": "1", "free_units_per_events": 0}, ["invalid_free_units_per_events"]),
        ({"rate": "1", "free_units_per_events": "1"}, ["invalid_free_units_per_events"]),
        (
            {
                "rate": 1,
                "fixed_amount": 1,
                "free_units_per_total_aggregation": 1,
                "per_transaction_min_amount": 1,
                "per_transaction_max_amount": "-1",
            },
            [
                "invalid_rate",
                "invalid_fixed_amount",
                "invalid_free_units_per_total_aggregation",
                "invalid_amount",
                "invalid_amount",
            ],
        ),
    ],
)
def test_invalid_properties(properties: dict[str, Any], codes: list[str]) -> None:
    assert validate(PERCENTAGE, properties) == codes


def test_an_event_that_just_uses_up_the_free_units_pays_the_fixed_amount() -> None:
    assert after([10, 5], ONE_FIVE | {"free_units_per_total_aggregation": "15"}).amount == 5
    assert after([10, 4], ONE_FIVE | {"free_units_per_total_aggregation": "15"}).amount == 0
    bounded = BOUNDED | {"free_units_per_total_aggregation": "10"}
    assert after([10], bounded).amount == Decimal("1.75")
    assert after([9], bounded).amount == 0


def test_an_event_alone_knows_no_allowance() -> None:
    """semantics-metering.md 1.10 and 7.13 #8."""
    terms = {"rate": "2", "fixed_amount": "3", "free_units_per_events": 4}
    assert price_alone(Decimal(100), terms).amount == 5
    assert price_alone(Decimal(100), terms).unit_amount == Decimal("0.05")
    assert price_alone(Decimal(0), terms) == Price(Decimal(3), Decimal(0), {})
    bounded = {"rate": "12", "per_transaction_min_amount": "16", "per_transaction_max_amount": "20"}
    assert [price_alone(Decimal(units), bounded).amount for units in (100, 150, 200)] == [16, 18, 20]


@pytest.mark.parametrize(
    ("values", "properties", "lasts"),
    [
        ([], {"rate": "1"}, False),
        ([], {"rate": "1", "free_units_per_events": 2}, True),
        ([9], {"rate": "1", "free_units_per_events": 2}, True),
        ([9, 9], {"rate": "1", "free_units_per_events": 2}, False),
        ([], {"rate": "1", "free_units_per_total_aggregation": "5"}, True),
        ([5], {"rate": "1", "free_units_per_total_aggregation": "5"}, True),
        ([5, 1], {"rate": "1", "free_units_per_total_aggregation": "5"}, False),
        ([-1], {"rate": "1"}, False),
    ],
)
def test_how_long_an_allowance_may_last(values: list[int], properties: dict[str, Any], lasts: bool) -> None:
    assert allowance(properties)(len(values), Decimal(sum(values))) is lasts


def test_of_a_count_the_free_events_are_free_units() -> None:
    """Its totals are those of every event, not of the free ones alone."""
    properties = {"rate": "10", "free_units_per_events": 2}
    found = priced(
        PERCENTAGE, properties, "5", events_count=5, running_totals=[Decimal(n) for n in range(1, 6)]
    )
    assert (found.details["free_units"], found.amount) == ("2.0", Decimal("0.3"))


@pytest.mark.parametrize(
    "properties",
    [
        {"rate": "1", "free_units_per_events": 1},
        {"rate": "1", "per_transaction_min_amount": "3"},
        {"rate": "1", "per_transaction_max_amount": "3"},
        {"rate": "1", "per_transaction_min_amount": "3", "per_transaction_max_amount": "3"},
    ],
)
def test_terms_that_can_be(properties: dict[str, Any]) -> None:
    assert validate(PERCENTAGE, properties) == []


def test_the_smallest_allowances_count() -> None:
    one_event = {"rate": "10", "free_units_per_events": 1}
    totals = [Decimal(number) for number in (1, 2, 3)]
    assert (
        priced(PERCENTAGE, one_event, "3", events_count=3, running_totals=totals).details["free_units"]
        == "1.0"
    )
    one_unit = {"rate": "10", "free_units_per_total_aggregation": "1", "per_transaction_min_amount": "2"}
    assert allowance(one_unit)(0, Decimal(0))
    assert after([30], one_unit).amount == Decimal("2.9")


allowances = st.fixed_dictionaries(
    {"rate": st.sampled_from(["0", "1.3", "150"])},
    optional={
        "fixed_amount": st.sampled_from(["0", "0.2"]),
        "free_units_per_events": st.sampled_from([1, 3, 40]),
        "free_units_per_total_aggregation": st.sampled_from(["0", "0.5", "1", "2.25", "7", "60"]),
        "per_transaction_min_amount": st.sampled_from(["0", "0.02", "1"]),
        "per_transaction_max_amount": st.sampled_from(["1", "1.6"]),
    },
)


@given(properties=allowances, count=st.integers(0, 50))
def test_counted_events_cost_what_each_of_them_costs(properties: dict[str, Any], count: int) -> None:
    ones = [Decimal(1)] * count
    read = pricer(PERCENTAGE, properties)
    with exact():
        one_by_one = read(
            Quantity(
                units=Decimal(count),
                events_count=count,
                running_totals=[Decimal(total) for total in counted_totals(count, properties)],
                event_values=ones,
            )
        )
        at_once = read(
            Quantity(
                units=Decimal(count),
                events_count=count,
                running_totals=counted_totals(count, properties),
                counted_events=count,
            )
        )
    assert at_once == one_by_one


def test_millions_of_counted_events_are_not_looked_at_one_by_one() -> None:
    count = 10**12
    properties = {
        "rate": "1",
        "fixed_amount": "0.5",
        "free_units_per_total_aggregation": "1000000000.5",
        "per_transaction_max_amount": "0.505",
    }
    with exact():
        found = pricer(PERCENTAGE, properties)(
            Quantity(
                units=Decimal(count),
                events_count=count,
                running_totals=counted_totals(count, properties),
                counted_events=count,
            )
        )
    assert found.amount == (count - 10**9) * Decimal("0.505")
    assert found.details["free_events"] == 10**9


def test_totals_below_nothing_are_within_no_free_units() -> None:
    properties = {"rate": "10", "fixed_amount": "1", "free_units_per_events": 2}
    found = after([-3, 5, 50], properties)
    assert (found.details["free_events"], found.details["free_units"]) == (2, "2.0")
    assert found.amount == 5 + 1


def test_without_an_allowance_no_counted_unit_is_free() -> None:
    assert list(counted_totals(5, {"rate": "1", "per_transaction_min_amount": "2"})) == []
    assert list(counted_totals(3, {"rate": "1", "free_units_per_events": 1})) == [1, 2, 3]
