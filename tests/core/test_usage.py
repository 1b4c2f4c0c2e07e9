"""Aggregations against plain loops over the events, the laws of merging, and the reference's vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.aggregations import AGGREGATIONS, Aggregation
from permille.core.metering.usage import (
    EMPTY,
    NO_USAGE,
    Partial,
    Usage,
    carried_over_to,
    epoch_seconds,
    merge,
    rounded,
)
from permille.core.period import INSTANT, Period
from tests.core.given import decimals, merge_all, ts

START = ts(2024, 3, 1)
ALL_BUT_WEIGHTED = [each for each in AGGREGATIONS if each is not aggregations.WEIGHTED_SUM]


@dataclass(frozen=True)
class Sent:
    """An event as the folds see it; `value` is None when the property is no number."""

    seq: int
    at: datetime
    value: Decimal | None
    text: str | None = None
    adds: bool = True
    cents: Decimal = Decimal(0)

    def partial(self) -> Partial:
        uniques = {self.text: (self.at, self.seq, self.adds)}
        operations = ((self.at, self.seq, self.text, self.adds),)
        if self.value is None:
            return Partial(events_count=1, uniques=uniques, operations=operations)
        instance = (self.at, self.seq, self.value)
        return Partial(
            events_count=1,
            values_count=1,
            sum=self.value,
            moment=self.value * epoch_seconds(self.at),
            max=self.value,
            last=instance,
            uniques=uniques,
            precise_amount_cents=self.cents,
            operations=operations,
            values=(instance,),
            custom_amount=2 * self.cents,
        )


@st.composite
def events(draw: st.DrawFn) -> list[Sent]:
    count = draw(st.integers(0, 12))
    return [
        Sent(
            seq,
            START + timedelta(hours=draw(st.integers(0, 20))),
            draw(st.none() | decimals(-100, 100, 2)),
            draw(st.sampled_from([None, "a", "b", "c"])),
            draw(st.booleans()),
            draw(decimals(0, 10, 3)),
        )
        for seq in range(count)
    ]


def expected(sent: Sequence[Sent], aggregation_type: Aggregation) -> Usage:
    """The rules of semantics-metering.md 2.4, event by event."""
    ordered = sorted(sent, key=lambda event: (event.at, event.seq))
    values = [event.value for event in ordered if event.value is not None]
    match aggregation_type:
        case aggregations.COUNT:
            units, count = Decimal(len(ordered)), len(ordered)
        case aggregations.SUM:
            units, count = sum(values, Decimal(0)), len(values)
        case aggregations.MAX:
            units, count = max(values, default=Decimal(0)), len(values)
        case aggregations.LATEST:
            units, count = max(values[-1], Decimal(0)) if values else Decimal(0), len(values)
        case aggregations.UNIQUE_COUNT:
            present: set[str | None] = set()
            for event in ordered:
                (present.add if event.adds else present.discard)(event.text)
            units, count = Decimal(len(present)), len(present)
        case _:  # what the rules of a custom aggregation have made of its events: changes that add up
            units, count = sum(values, Decimal(0)), len(values)
    return Usage(units, count, units)


@given(events(), st.sampled_from(ALL_BUT_WEIGHTED), st.randoms(), st.lists(st.integers(0, 12), max_size=4))
def test_usage_is_the_same_however_events_are_split_and_shuffled(
    sent: list[Sent], aggregation_type: Aggregation, random: Random, cuts: list[int]
) -> None:
    shuffled = [event.partial() for event in sent]
    random.shuffle(shuffled)
    bounds = [0, *sorted(cuts), len(shuffled)]
    parts = [merge_all(shuffled[start:end]) for start, end in pairwise(bounds)]
    random.shuffle(parts)
    whole = merge_all(parts)
    assert aggregation_type.aggregate(whole) == expected(sent, aggregation_type)
    assert whole.precise_amount_cents == sum(e.cents for e in sent if e.value is not None)
    assert whole.custom_amount == 2 * whole.precise_amount_cents
    ordered = sorted(sent, key=lambda e: (e.at, e.seq))
    assert [seq for _, seq, _ in whole.values] == [e.seq for e in ordered if e.value is not None]
    assert whole.operations == tuple((e.at, e.seq, e.text, e.adds) for e in ordered)


@given(events(), events(), events())
def test_merging_is_associative_and_commutative_and_empty_is_neutral(
    one: list[Sent], two: list[Sent], three: list[Sent]
) -> None:
    # Events of different sets have different places in the order of arrival.
    sets = [[replace(e, seq=e.seq + 100 * n) for e in each] for n, each in enumerate((one, two, three))]
    a, b, c = (merge_all(e.partial() for e in each) for each in sets)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    assert merge(a, EMPTY) == merge(EMPTY, a) == a


@given(events(), events())
def test_what_was_not_kept_of_some_events_stays_as_it_is_of_the_others(
    one: list[Sent], two: list[Sent]
) -> None:
    kept = merge_all(event.partial() for event in one)
    bare = merge_all(event.partial()._replace(uniques={}, operations=(), values=()) for event in two)
    for whole in (merge(kept, bare), merge(bare, kept)):
        assert (whole.uniques, whole.operations, whole.values) == (
            kept.uniques,
            kept.operations,
            kept.values,
        )


@given(events(), events())
def test_what_is_carried_over_of_all_is_what_is_carried_over_of_the_parts(
    one: list[Sent], two: list[Sent]
) -> None:
    a, b = (merge_all(event.partial() for event in each) for each in (one, two))
    at = AUGUST.from_
    assert (
        merge(carried_over_to(a, at), carried_over_to(b, at)).moment
        == carried_over_to(merge(a, b), at).moment
    )
    period: dict[str, Any] = {"period": AUGUST, "period_seconds": MONTH}
    level = sum((e.value for e in (*one, *two) if e.value is not None), Decimal(0))
    stands = aggregations.WEIGHTED_SUM.aggregate(
        merge(carried_over_to(a, at), carried_over_to(b, at)), **period
    )
    assert stands == Usage(level, 0, level), "no event of the period, and the level for all of it"


def test_sums_do_not_lose_digits() -> None:
    big, small = Partial(events_count=1, sum=Decimal(10**39)), Partial(events_count=1, sum=Decimal("1e-40"))
    assert str(merge(big, small).sum) == "1" + "0" * 39 + "." + "0" * 39 + "1"


@pytest.mark.parametrize("aggregation_type", ALL_BUT_WEIGHTED)
def test_no_event_is_no_usage(aggregation_type: Aggregation) -> None:
    assert aggregation_type.aggregate(EMPTY) == NO_USAGE
    assert not aggregation_type.events_counted(EMPTY)


def test_an_event_without_a_number_takes_no_part_in_a_sum() -> None:
    nameless = Sent(1, START, None).partial()
    assert not aggregations.SUM.events_counted(nameless)
    assert aggregations.COUNT.events_counted(nameless)
    assert aggregations.UNIQUE_COUNT.aggregate(nameless).units == 1


def of_values(*values: str | None) -> Partial:
    sent = [
        Sent(n, START + timedelta(hours=n), None if value is None else Decimal(value))
        for n, value in enumerate(values)
    ]
    return merge_all(event.partial() for event in sent)


COUNT, SUM, MAX, LATEST = (
    aggregations.COUNT,
    aggregations.SUM,
    aggregations.MAX,
    aggregations.LATEST,
)


@pytest.mark.parametrize(
    ("aggregation_type", "values", "units", "events_count"),
    [
        # semantics-metering.md 7.1 to 7.3
        (COUNT, ["1", None, "1", None], "4", 4),
        (SUM, ["12"] * 4, "48", 4),
        (SUM, ["2.5"] * 2 + ["12"] * 4, "53", 6),
        (SUM, ["12"] * 4 + ["4.5"], "52.5", 5),
        (SUM, ["12"] * 4 + [None], "48", 4),
        (SUM, [None, None], "0", 0),
        (SUM, ["0", "0", "0"], "0", 3),
        (MAX, ["9", "3", "7", "1", "12"], "12", 5),
        (MAX, ["14.2"], "14.2", 1),
        (MAX, [None], "0", 0),
        (MAX, ["-5", "-3"], "-3", 2),
        (MAX, ["5", "20", "3"], "20", 3),
        (LATEST, ["18", "18", "18", "18", "14"], "14", 5),
        (LATEST, ["14.2"], "14.2", 1),
        (LATEST, ["-5"], "0", 1),
        (LATEST, [None], "0", 0),
        (LATEST, ["10", "3", "50"], "50", 3),
    ],
)
def test_vectors(
    aggregation_type: Aggregation, values: list[str | None], units: str, events_count: int
) -> None:
    usage = aggregation_type.aggregate(of_values(*values))
    assert usage == Usage(Decimal(units), events_count, Decimal(units))


@pytest.mark.parametrize(
    ("operations", "units"),
    [
        # semantics-metering.md 7.4
        ([("1", True), ("2", True), ("3", True), ("4", True), ("5", True), ("2", False)], 4),
        ([("a", True), ("a", False)], 0),
        ([("a", False)], 0),
        ([("a", True), ("a", True)], 1),
        ([("a", True), ("a", False), ("a", True)], 1),
        ([(None, True), (None, True)], 1),
    ],
)
def test_unique_values(operations: list[tuple[str | None, bool]], units: int) -> None:
    sent = [
        Sent(n, START + timedelta(hours=n), None, text, adds) for n, (text, adds) in enumerate(operations)
    ]
    usage = aggregations.UNIQUE_COUNT.aggregate(merge_all(e.partial() for e in sent))
    assert usage == Usage(Decimal(units), units, Decimal(units))


@pytest.mark.parametrize(
    ("function", "precision", "units"),
    [
        # semantics-metering.md 7.6 #15 and #16
        ("round", 2, "123.46"),
        ("round", 0, "123"),
        ("round", None, "123"),
        ("round", -2, "100"),
        ("ceil", 2, "123.46"),
        ("ceil", None, "124"),
        ("ceil", -2, "200"),
        ("floor", 2, "123.45"),
        ("floor", None, "123"),
        ("floor", -2, "100"),
        ("round", 10**9, "123.456"),
        ("floor", -(10**9), "0"),
    ],
)
def test_the_aggregate_is_rounded_as_the_metric_says(
    function: str, precision: int | None, units: str
) -> None:
    usage = SUM.aggregate(
        of_values("100.4", "23.056"),
        rounding_function=function,
        rounding_precision=precision,
    )
    assert usage == Usage(Decimal(units), 2, Decimal(units))


def test_halves_are_rounded_away_from_zero() -> None:
    assert [rounded(Decimal(v), "round", 0) for v in ("0.5", "-0.5", "2.5")] == [1, -1, 3]
    assert [rounded(Decimal("-1.5"), f, 0) for f in ("ceil", "floor")] == [-1, -2]


def test_the_sum_of_vector_5_is_rounded_up() -> None:
    usage = SUM.aggregate(
        of_values("12", "12", "12", "12.434"),
        rounding_function="ceil",
        rounding_precision=2,
    )
    assert usage.units == Decimal("48.44")


# --- weighted sums ----------------------------------------------------------------------------------------

AUGUST = Period(ts(2023, 8, 1), ts(2023, 9, 1))
MONTH = 31 * 86_400
DAY_OF_CHANGES = [
    (ts(2023, 8, 1, hour, minute), Decimal(delta))
    for hour, minute, delta in [
        (0, 0, 2),
        (1, 0, 3),
        (1, 30, 1),
        (2, 0, -4),
        (4, 0, -2),
        (5, 0, 10),
        (5, 30, -10),
    ]
]


def weighted(
    deltas: Sequence[tuple[datetime, Decimal]], *, initial: Decimal, period: Period, period_seconds: int
) -> Usage:
    """`initial` and what is before the period stand at its start; what is after it is not read."""
    sent = [Sent(n, at, delta).partial() for n, (at, delta) in enumerate(deltas) if at < period.to]
    at = [at for at, _ in deltas if at < period.to]
    before = [Sent(-1, period.from_, initial).partial()] if initial else []
    before += [one for one, when in zip(sent, at, strict=True) if when < period.from_]
    own = [one for one, when in zip(sent, at, strict=True) if when >= period.from_]
    return aggregations.WEIGHTED_SUM.aggregate(
        merge(carried_over_to(merge_all(before), period.from_), merge_all(own)),
        period=period,
        period_seconds=period_seconds,
    )


@pytest.mark.parametrize(
    ("deltas", "initial", "units", "level", "events_count"),
    [
        # semantics-metering.md 7.5
        (DAY_OF_CHANGES, 0, "0.02218", 0, 7),
        ([(ts(2023, 8, 1), Decimal(1000))], 0, "1000", 1000, 1),
        ([(ts(2023, 8, 5), Decimal(1000))], 0, "870.96774", 1000, 1),
        ([(ts(2023, 8, 1), Decimal(3))] * 2, 0, "6", 6, 2),
        ([(ts(2023, 8, 5), Decimal(3))] * 2, 0, "5.22581", 6, 2),
        (DAY_OF_CHANGES, 1000, "1000.02218", 1000, 7),
        ([], 1000, "1000", 1000, 0),
        ([(ts(2023, 7, 31), Decimal(10))], 0, "10", 10, 0),
        ([(ts(2023, 9, 1), Decimal(10))], 0, "0", 0, 0),
    ],
)
def test_weighted_sum_vectors(
    deltas: list[tuple[datetime, Decimal]], initial: int, units: str, level: int, events_count: int
) -> None:
    usage = weighted(deltas, initial=Decimal(initial), period=AUGUST, period_seconds=MONTH)
    assert round(usage.units, 5) == Decimal(units)
    assert (usage.total_aggregated_units, usage.events_count) == (level, events_count)


def test_a_shortened_period_weighs_against_the_whole_one() -> None:
    """Subscribed on 5 March with 2500: 27 of 31 days, to 16 decimals."""
    part = Period(ts(2023, 3, 5), ts(2023, 4, 1))
    usage = weighted([(ts(2023, 3, 5), Decimal(2500))], initial=Decimal(0), period=part, period_seconds=MONTH)
    assert str(usage.units) == "2177.4193548387096774"
    april = Period(ts(2023, 4, 1), ts(2023, 5, 1))
    deltas = [(ts(2023, 4, 4), Decimal(-2000)), (ts(2023, 4, 6), Decimal(-200))]
    usage = weighted(deltas, initial=Decimal(2500), period=april, period_seconds=30 * 86_400)
    assert str(usage.units) == "533.3333333333333333"
    assert usage.total_aggregated_units == 300


@pytest.mark.parametrize(
    ("microsecond", "units"), [(0, "10"), (1, "10.0000115740740741"), (999_999, "10.0000115740740741")]
)
def test_what_ends_within_a_period_is_weighed_to_whole_seconds(microsecond: int, units: str) -> None:
    """A level of 31 until the eleventh's first second, which is the last instant, of 31 days."""
    end = ts(2023, 8, 11) + timedelta(microseconds=microsecond)
    part = Period(ts(2023, 8, 1), end + INSTANT)
    usage = weighted([(ts(2023, 8, 1), Decimal(31))], initial=Decimal(0), period=part, period_seconds=MONTH)
    assert usage.units == Decimal(units)


@given(
    st.lists(st.tuples(st.integers(-5, 35 * 24), decimals(-50, 50, 1)), max_size=8),
    decimals(0, 10, 1),
)
def test_a_weighted_sum_is_the_average_of_hourly_levels(
    changes: list[tuple[int, Decimal]], initial: Decimal
) -> None:
    hours = 31 * 24
    levels = [initial + sum(delta for at, delta in changes if at <= hour) for hour in range(hours)]
    deltas = [(AUGUST.from_ + timedelta(hours=at), delta) for at, delta in changes]
    usage = weighted(deltas, initial=initial, period=AUGUST, period_seconds=MONTH)
    assert abs(usage.units - sum(levels, Decimal(0)) / hours) < Decimal("1e-12")


def test_a_weighted_sum_is_rounded_as_the_metric_says() -> None:
    sent = [Sent(n, at, delta) for n, (at, delta) in enumerate(DAY_OF_CHANGES)]
    usage = aggregations.WEIGHTED_SUM.aggregate(
        merge_all(e.partial() for e in sent),
        rounding_function="round",
        rounding_precision=3,
        period=AUGUST,
        period_seconds=MONTH,
    )
    assert usage == Usage(Decimal("0.022"), 7, Decimal(0))
    for known in ({}, {"period": AUGUST}, {"period_seconds": MONTH}):
        with pytest.raises(ValueError, match="needs its period"):
            aggregations.WEIGHTED_SUM.aggregate(EMPTY, **known)


@given(
    st.lists(st.tuples(st.integers(0, 31 * 86_400 * 1_000_000 - 1), decimals(-50, 50, 3)), max_size=8),
    decimals(-10, 10, 1),
)
def test_a_weighted_sum_is_the_area_under_the_level(
    changes: list[tuple[int, Decimal]], initial: Decimal
) -> None:
    """The level from change to change, in exact fractions."""
    level, area, since = Fraction(initial), Fraction(0), 0
    for at, delta in sorted(changes):
        area += level * (at - since)
        level, since = level + Fraction(delta), at
    area += level * (MONTH * 1_000_000 - since)
    deltas = [(AUGUST.from_ + timedelta(microseconds=at), delta) for at, delta in changes]
    usage = weighted(deltas, initial=initial, period=AUGUST, period_seconds=MONTH)
    assert abs(Fraction(usage.units) - area / (MONTH * 1_000_000)) <= Fraction(1, 2 * 10**16)
    assert usage.total_aggregated_units == level
    assert usage.events_count == len(changes)
