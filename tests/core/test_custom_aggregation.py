"""Custom aggregation: rules that say what a built-in aggregation or model does come to the same; order, buckets, tiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.aggregations import Aggregation
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import Aggregator, aggregator_of, fold, read_aggregator
from permille.core.metering.rule import TEXT_MAX
from permille.core.metering.usage import CustomEvent, Partial
from permille.core.money import exact
from permille.core.period import Period
from permille.core.rating.charge import compile_charge
from permille.core.rating.daily_usage import Day, fold_custom_days
from permille.core.rating.fee import Fee
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.models import ChargeModel, price
from permille.core.rating.projection import Projection, project
from permille.core.rating.rate import rate
from permille.core.record import replace
from tests.core.given import decimals, in_period, ts

MARCH = Period(ts(2024, 3, 1), ts(2024, 4, 1))
NONE: Mapping[str, Any] = {}

PAGE = Path(__file__).parents[2] / "docs" / "custom-aggregation.md"
# The worked example: two rules, and what events come to by them.
EXAMPLE = PAGE.read_text(encoding="utf-8").split("## Example")[1]
TIERS = EXAMPLE.split("```")[1]
TIERED_UNITS = "state.total_units + event.properties.units"
PRICES = {
    "first_1": "0.12",
    "first_2": "0.10",
    "first_3": "0.08",
    "first_4": "0.06",
    "third_1": "0.15",
    "third_2": "0.12",
    "third_3": "0.10",
    "third_4": "0.08",
}
SUM = "state.total_units + event.properties.n"


def rules(total_units: str, amount: str = "0") -> Aggregator:
    return read_aggregator("calls", total_units, amount)


def event(aggregator: Aggregator, number: int, at: int | None = None, **texts: str | None) -> CustomEvent:
    moment = MARCH.from_ + timedelta(hours=number if at is None else at)
    return moment, number, tuple(texts.get(name) for name in aggregator.properties)


def events(aggregator: Aggregator, *sent: Any) -> list[CustomEvent]:
    return [event(aggregator, number, **texts) for number, texts in enumerate(sent)]


def test_the_worked_example_at_lagos_figures() -> None:
    """semantics-metering.md 7.6 #18, in the words of docs/custom-aggregation.md."""
    steps = [
        ("first", 1, 12),
        ("first", 1000, 12_000),
        ("third", 1001, 12_012),
        ("first", 1002, 12_022),
        ("first", 20_000, 202_002),
        ("first", 20_001, 202_010),
        ("first", 50_003, 442_020),
    ]
    assert f"`{TIERED_UNITS}`" in EXAMPLE
    aggregator, reached, sent = rules(TIERED_UNITS, TIERS), 0, []
    for party, total, cents in steps:
        step = total - reached
        sent.append({"units": str(step), "party": party})
        reached = total
        found = fold(aggregator, [events(aggregator, *sent)], {"custom_properties": PRICES})
        assert (found.sum, found.custom_amount * 100) == (total, cents)
        whose = "ours" if party == "first" else "a third party"
        assert f"| {step:,} of {whose} | {total:,} | {Decimal(cents) / 100:,.2f} |" in EXAMPLE


numbers = st.one_of(st.none(), st.just("many"), decimals(-1000, 1000, 3).map(str))


def built_in(kind: Aggregation, texts: Sequence[str | None]) -> Decimal:
    values = [Decimal(text) for text in texts if text not in (None, "many")]
    partial = Partial(
        events_count=len(texts),
        values_count=len(values),
        sum=sum(values, Decimal(0)),
        max=max(values, default=None),
        last=(MARCH.from_, 1, values[-1]) if values else None,
    )
    return kind.aggregate(partial).units


@pytest.mark.parametrize(
    ("kind", "total_units"),
    [
        (aggregations.SUM, SUM),
        (aggregations.COUNT, "state.total_units + 1"),
        # The first number is the largest until then, be it negative.
        (
            aggregations.MAX,
            "if(state.amount = 0, event.properties.n, greatest(state.total_units, event.properties.n))",
        ),
        (aggregations.LATEST, "greatest(event.properties.n, 0)"),
    ],
)
@given(texts=st.lists(numbers, max_size=12), random=st.randoms())
def test_rules_that_say_what_a_metric_does_come_to_the_same(
    kind: Aggregation, total_units: str, *, texts: list[str | None], random: Random
) -> None:
    aggregator = rules(total_units, "0 * event.properties.n + 1" if "properties" in total_units else "1")
    sent = [event(aggregator, number, number // 2, n=text) for number, text in enumerate(texts)]
    random.shuffle(sent)
    cut = len(sent) // 3
    found = fold(aggregator, [sent[:cut], sent[cut:]], NONE)
    assert found.sum == built_in(kind, texts)
    counting = [text for text in texts if kind is aggregations.COUNT or text not in (None, "many")]
    assert found.events_count == found.values_count == found.custom_amount == len(counting)
    with exact():
        assert sum((change for _, _, change in found.values), Decimal(0)) == found.sum
    assert list(found.values) == sorted(found.values, key=lambda each: each[:2])


@given(
    st.lists(decimals(0, 40, 2), max_size=8),
    st.lists(decimals(0, 5, 4), min_size=3, max_size=3),
)
def test_tiers_by_least_and_greatest_are_the_graduated_model(
    units: list[Decimal], prices: list[Decimal]
) -> None:
    bounds = ["0", "10", "30.5"]
    amount = " + ".join(
        f"{unit} * greatest(0, {'' if upper is None else 'least('}{SUM}{'' if upper is None else f', {upper})'}"
        f" - greatest(state.total_units, {lower}))"
        for lower, upper, unit in zip(bounds, [*bounds[1:], None], prices, strict=True)
    )
    aggregator = rules(SUM, amount)
    found = fold(aggregator, [events(aggregator, *({"n": str(each)} for each in units))], NONE)
    ranges = [
        {"from_value": lower, "to_value": upper, "per_unit_amount": str(unit), "flat_amount": "0"}
        for lower, upper, unit in zip(bounds, [*bounds[1:], None], prices, strict=True)
    ]
    graduated = price(
        ChargeModel.GRADUATED,
        units=sum(units, Decimal(0)),
        properties={"graduated_ranges": ranges},
        currency="USD",
    )
    assert found.custom_amount == graduated.amount


def test_both_rules_see_what_was_before_the_event() -> None:
    aggregator = rules(SUM, "state.total_units + state.amount")
    found = fold(aggregator, [events(aggregator, {"n": "2"}, {"n": "3"}, {"n": "4"})], NONE)
    assert (found.sum, found.custom_amount) == (9, 0 + 2 + (5 + 2))


def test_an_event_without_a_value_changes_nothing() -> None:
    aggregator = rules(SUM, "1 / event.properties.m")
    sent: list[dict[str, str | None]] = [
        {"n": "1", "m": "2"},
        {"n": "10", "m": "0"},
        {"n": "100", "m": None},
        {"n": "1000", "m": "x"},
        {"n": "x", "m": "1"},
        {"n": "9" * 39, "m": "1"},
        {"n": "9" * (TEXT_MAX + 1), "m": "1"},
        {"n": "5", "m": "4"},
    ]
    found = fold(aggregator, [events(aggregator, *sent)], NONE)
    assert (found.sum, found.custom_amount, found.events_count) == (6, Decimal("0.75"), 2)


def test_a_rule_sees_the_whole_seconds_of_an_event_and_its_code() -> None:
    """MARCH begins at 1709251200."""
    aggregator = rules("if(event.code = 'calls', event.timestamp, 0)", "event.timestamp - state.total_units")
    late = (MARCH.from_ + timedelta(seconds=90, microseconds=999_999), 1, ())
    found = fold(aggregator, [[(MARCH.from_, 0, ()), late]], NONE)
    assert (found.sum, found.custom_amount) == (1_709_251_290, 1_709_251_200 + 90)


def test_what_the_rules_look_at_is_what_either_of_them_does() -> None:
    found = rules(
        "event.properties.b * custom_properties.x",
        "event.properties.a + event.properties.b + custom_properties.y",
    )
    assert (found.properties, found.custom_properties) == (("a", "b"), {"x", "y"})


def test_the_rules_of_a_metric() -> None:
    at = MARCH.from_
    metric = BillableMetric(
        id=UUID(int=1),
        organization_id=UUID(int=2),
        name="Calls",
        code="calls",
        description=None,
        aggregation=aggregations.CUSTOM,
        field_name=None,
        recurring=False,
        rounding_function=None,
        rounding_precision=None,
        weighted_interval=None,
        expression=None,
        filters={},
        created_at=at,
        updated_at=at,
    )
    assert aggregator_of(metric) is None
    for given_, amount in (({"amount": "2 * event.properties.n"}, 6), ({}, 0), ({"amount": ""}, 0)):
        aggregator = aggregator_of(replace(metric, custom_aggregator={"total_units": SUM, **given_}))
        assert aggregator is not None
        found = fold(aggregator, [events(aggregator, {"n": "3"})], NONE)
        assert (found.sum, found.custom_amount) == (3, amount)


def test_numbers_do_not_grow_without_end() -> None:
    """Squared again and again: where there are no more digits, events stop to count."""
    aggregator = rules("(state.total_units + 2) * (state.total_units + 2) * (1 / 3 + 1)")
    found = fold(aggregator, [events(aggregator, *[{}] * 2_000)], NONE)
    assert found.events_count == 6
    assert found.sum < Decimal("1e38")


def fees(
    series: list[tuple[dict[str, str | None], Partial]],
    aggregator: Aggregator,
    *,
    model: ChargeModel = ChargeModel.CUSTOM,
    properties: dict[str, Any],
    filters: tuple[ChargeFilter, ...] = (),
    **more: Any,
) -> list[Fee]:
    charge = compile_charge(
        charge_id="charge",
        model=model,
        properties=properties,
        filters=filters,
        aggregation=aggregations.CUSTOM,
        currency="USD",
        aggregator=aggregator,
        **more,
    )
    return rate(charge, series, subscription_id="sub", rated=in_period(MARCH))


def used(aggregator: Aggregator, *runs: Sequence[CustomEvent]) -> Partial:
    return Partial(events_count=sum(map(len, runs)), custom_events=tuple(map(tuple, runs)))


def figures(rows: Sequence[Fee]) -> list[tuple[Any, Any, str, int, int | None]]:
    return [
        (fee.charge_filter_id, fee.grouped_by.get("team"), str(fee.units), fee.amount_cents, fee.events_count)
        for fee in rows
    ]


def own(price_: Any, **more: Any) -> dict[str, Any]:
    return {"custom_properties": {"price": price_}, **more}


def test_each_bucket_and_group_is_folded_by_itself_with_its_own_properties() -> None:
    aggregator = rules(SUM, "event.properties.n * custom_properties.price + if(state.amount = 0, 1, 0)")
    sent = [event(aggregator, number, n=n) for number, n in enumerate(["1", "2", "4", "8", "16", "many"])]
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"model": "8K", "team": "a"}, used(aggregator, sent[:2])),
        ({"model": "8K", "team": "b"}, used(aggregator, sent[2:3])),
        ({"model": "32K", "team": "a"}, used(aggregator, sent[3:4])),
        ({"model": "32K", "team": "b"}, used(aggregator, sent[4:5])),
        ({"model": "32K", "team": "c"}, used(aggregator, sent[5:])),
    ]
    rows = fees(
        series,
        aggregator,
        properties=own("0.5", pricing_group_keys=["team"]),
        filters=(ChargeFilter("8K", {"model": ("8K",)}, None, own(2)),),
    )
    assert figures(rows) == [
        ("8K", None, "7", 1500, 3),
        (None, "a", "8", 500, 1),
        (None, "b", "16", 900, 1),
    ]
    assert [str(fee.precise_unit_amount) for fee in rows] == ["2.142857142857143", "0.625", "0.5625"]


def test_other_models_price_the_units() -> None:
    aggregator = rules(SUM, "1000")
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({}, used(aggregator, events(aggregator, {"n": "1.2"}, {"n": "2.2"})))
    ]
    (fee,) = fees(
        series,
        aggregator,
        model=ChargeModel.STANDARD,
        properties={"amount": "2"},
        rounding_function="ceil",
    )
    assert (fee.units, fee.amount_cents, fee.total_aggregated_units) == (4, 800, 4)
    # What an event brings is what it changes the units by.
    (bounded,) = fees(
        series,
        aggregator,
        model=ChargeModel.PERCENTAGE,
        properties={"rate": "100", "per_transaction_max_amount": "2"},
    )
    assert bounded.amount_cents == 120 + 200


def test_an_amount_without_units_is_owed_and_a_negative_one_is_not() -> None:
    aggregator = rules("0", "event.properties.n")
    for n, expected in [("7", (Decimal(0), 700, Decimal(0))), ("-7", (Decimal(0), 0, Decimal(0)))]:
        partial = used(aggregator, events(aggregator, {"n": n}))
        (fee,) = fees([({}, partial)], aggregator, properties={})
        assert (fee.units, fee.amount_cents, fee.precise_unit_amount) == expected


def test_a_projection_is_the_amount_by_the_share_that_is_over() -> None:
    aggregator = rules(SUM, "event.properties.n * event.properties.n")
    charge = compile_charge(
        charge_id="charge",
        model=ChargeModel.CUSTOM,
        properties={},
        filters=(),
        aggregation=aggregations.CUSTOM,
        currency="USD",
        aggregator=aggregator,
    )
    series: list[Any] = [({}, used(aggregator, events(aggregator, {"n": "3"}, {"n": "1"})))]
    (fee,) = rate(charge, series, subscription_id="sub", rated=in_period(MARCH))
    assert project(charge, fee, recurring=False, elapsed=Fraction(1, 3)) == Projection(Decimal(12), 3000)
    assert project(charge, fee, recurring=True, elapsed=Fraction(1, 3)) == Projection(Decimal(4), 1000)


@given(
    st.lists(st.tuples(st.integers(-40, 6 * 24), decimals(-5, 20, 1)), max_size=12),
    st.booleans(),
    st.integers(0, 4),
)
def test_a_day_has_what_its_events_changed(
    sent: list[tuple[int, Decimal]], recurring: bool, opens: int
) -> None:
    """Six days, the period opening on one of them; against a fold up to the day's start and one up to its end."""
    aggregator = rules("greatest(state.total_units + event.properties.n, 0)")
    charge = compile_charge(
        charge_id="charge",
        model=ChargeModel.CUSTOM,
        properties={},
        filters=(),
        aggregation=aggregations.CUSTOM,
        currency="USD",
        aggregator=aggregator,
    )
    all_events = [event(aggregator, number, at, n=str(n)) for number, (at, n) in enumerate(sent)]

    def between(from_: Any, to: Any) -> list[tuple[dict[str, str | None], Partial]]:
        found = [each for each in all_events if (from_ is None or from_ <= each[0]) and each[0] < to]
        return [({}, used(aggregator, found[::2])), ({}, used(aggregator, found[1::2]))]

    days = []
    for number in range(6):
        start = MARCH.from_ + timedelta(days=number)
        part = Period(start, start + timedelta(days=1))
        days.append(
            Day(date=start.date(), part=part, seconds=86_400, opens_period=number == opens),
        )
    folded = fold_custom_days(
        charge,
        between(None, MARCH.from_),
        [(day, between(day.part.from_, day.part.to)) for day in days],
        recurring=recurring,
    )
    for number, (day, found) in enumerate(zip(days, folded, strict=True)):
        since = days[opens].part.from_ if number >= opens and not recurring else None
        reached, before = (
            fold(aggregator, [run for _, each in between(since, at) for run in each.custom_events], NONE)
            for at in (day.part.to, day.part.from_)
        )
        units = reached.sum if recurring else reached.sum - before.sum
        count = reached.events_count - before.events_count
        usage = found.get((0, ()))
        assert (usage.units, usage.events_count) == (units, count) if usage else (units, count) == (0, 0)


def test_events_at_the_very_start_of_a_period_are_paid_in_it() -> None:
    """Five, then three back: what was paid stays. An hour before the start nothing was paid, and two stand."""
    aggregator = rules(SUM, "event.properties.n")
    sent = [event(aggregator, 1, at=0, n="5"), event(aggregator, 2, at=0, n="-3")]
    assert fold(aggregator, [sent], NONE, paid_from=MARCH.from_).custom_amount == 5
    earlier = [event(aggregator, 1, at=-1, n="5"), event(aggregator, 2, at=-1, n="-3")]
    assert fold(aggregator, [earlier], NONE, paid_from=MARCH.from_).custom_amount == 2
