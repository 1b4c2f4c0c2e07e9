"""The fold of days against a recomputation of every day from all raw events; days of any timezone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.aggregations import AGGREGATIONS, Aggregation
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.usage import EMPTY, Partial, epoch_seconds, merge
from permille.core.period import Period, local_date, midnight
from permille.core.rating.daily_usage import Day, Reach, day_of, fold_days, reach_of

from .given import TIMEZONES

FIRST = date(2024, 3, 28)  # clocks change in Europe on the 31st, in Beirut too; a month begins on the 5th day
DAYS = 7
COUNTED = (
    aggregations.SUM,
    aggregations.COUNT,
    aggregations.MAX,
    aggregations.UNIQUE_COUNT,
    aggregations.LATEST,
    aggregations.WEIGHTED_SUM,
)
RECURRING = (aggregations.SUM, aggregations.UNIQUE_COUNT, aggregations.WEIGHTED_SUM)
KINDS = [(kind, False) for kind in COUNTED] + [(kind, True) for kind in RECURRING]


@dataclass(frozen=True)
class Event:
    at: datetime
    seq: int
    model: str
    value: Decimal | None
    text: str
    is_add: bool


def metric(kind: Aggregation, recurring: bool) -> BillableMetric:
    return BillableMetric(
        id=UUID(int=1),
        organization_id=UUID(int=2),
        name="m",
        code="m",
        description=None,
        aggregation=kind,
        field_name="value",
        recurring=recurring,
        rounding_function=None,
        rounding_precision=None,
        weighted_interval=None,
        expression=None,
        filters={},
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        updated_at=datetime(2024, 1, 1, tzinfo=UTC),
    )


def partial_of(event: Event) -> Partial:
    known = event.value is not None
    return Partial(
        events_count=1,
        values_count=int(known),
        sum=event.value or Decimal(0),
        moment=(event.value or Decimal(0)) * epoch_seconds(event.at),
        max=event.value,
        last=(event.at, event.seq, event.value) if event.value is not None else None,
        uniques={event.text: (event.at, event.seq, event.is_add)},
        values=((event.at, event.seq, event.value),) if event.value is not None else (),
    )


def series(events: Sequence[Event]) -> list[tuple[Mapping[str, str | None], Partial]]:
    """Two series of each model, so that the fold has to merge."""
    found: dict[tuple[str, int], Partial] = {}
    for event in events:
        key = event.model, event.seq % 2
        found[key] = merge(found.get(key, EMPTY), partial_of(event))
    return [({"model": model}, partial) for (model, _), partial in found.items()]


def slowly(kind: Aggregation, events: Sequence[Event], day: Day) -> tuple[Decimal, int]:
    """Units of a day from all events that its reach lets in, and how many of the day's own count."""
    ordered = sorted(events, key=lambda each: (each.at, each.seq))
    values = [event for event in ordered if event.value is not None]
    own = [event for event in ordered if event.at in day.part]
    own_values = [event for event in own if event.value is not None]
    match kind:
        case aggregations.COUNT:
            return Decimal(len(events)), len(own)
        case aggregations.SUM:
            return sum((each.value or Decimal(0) for each in values), Decimal(0)), len(own_values)
        case aggregations.MAX:
            return max((each.value or Decimal(0) for each in values), default=Decimal(0)), len(own_values)
        case aggregations.LATEST:
            return max(values[-1].value or Decimal(0), Decimal(0)) if values else Decimal(0), len(own_values)
        case aggregations.UNIQUE_COUNT:
            there = {event.text: event.is_add for event in ordered}
            return Decimal(sum(there.values())), len(own)
        case _:
            # Each change counts for as long as it stands on this day.
            share = (
                sum(
                    (
                        Fraction(each.value or 0)
                        * Fraction((day.part.to - max(each.at, day.part.from_)).total_seconds())
                        for each in values
                    ),
                    Fraction(0),
                )
                / day.seconds
            )
            average = (Decimal(share.numerator) / Decimal(share.denominator)).quantize(Decimal("1e-12"))
            return average, len(own_values)


minutes = st.integers(-3 * 24 * 60, (DAYS + 1) * 24 * 60)
values = st.one_of(st.none(), st.integers(-50, 100).map(lambda number: Decimal(number) / 4))
drawn = st.lists(
    st.tuples(minutes, st.sampled_from(["8K", "32K"]), values, st.sampled_from("abc"), st.booleans()),
    max_size=15,
)


@pytest.mark.parametrize(("kind", "recurring"), KINDS)
@given(drawn, st.sampled_from(TIMEZONES), st.tuples(st.integers(0, 30 * 60), st.integers(0, DAYS - 1)))
def test_every_day_is_what_a_recomputation_of_it_gives(
    kind: Aggregation,
    recurring: bool,
    sent: list[tuple[int, str, Decimal | None, str, bool]],
    timezone: str,
    cut: tuple[int, int],
) -> None:
    started, skipped = cut
    origin = midnight(FIRST, timezone)
    life = Period(origin + timedelta(minutes=started), midnight(FIRST + timedelta(days=DAYS), timezone))
    boundary = midnight(date(2024, 4, 1), timezone)
    events = [
        Event(origin + timedelta(minutes=at), seq, model, value, text, is_add)
        for seq, (at, model, value, text, is_add) in enumerate(sent)
    ]

    def opened_at(at: datetime) -> datetime:
        return max(boundary if at >= boundary else midnight(date(2024, 3, 1), timezone), life.from_)

    first = max(FIRST + timedelta(days=skipped), local_date(life.from_, timezone))
    dates = [first + timedelta(days=n) for n in range((FIRST - first).days + DAYS)]
    days = [
        day_of(each, life, timezone, opened_at=opened_at(max(midnight(each, timezone), life.from_)))
        for each in dates
    ]
    of = metric(kind, recurring)
    reach = reach_of(of)
    start = days[0].part.from_
    since = {Reach.DAY: start, Reach.PERIOD: opened_at(start), Reach.EVER: datetime.min.replace(tzinfo=UTC)}
    before = series([event for event in events if since[reach] <= event.at < start])
    own = [(day, series([event for event in events if event.at in day.part])) for day in days]

    folded = fold_days(of, before, own, place_of=lambda dimensions: dimensions["model"])

    for day, found in zip(days, folded, strict=True):
        reached = {
            Reach.DAY: day.part.from_,
            Reach.PERIOD: opened_at(day.part.from_),
            Reach.EVER: datetime.min.replace(tzinfo=UTC),
        }[reach]
        for model in ("8K", "32K"):
            let_in = [e for e in events if e.model == model and reached <= e.at < day.part.to]
            units, count = slowly(kind, let_in, day)
            usage = found.get(model)
            if usage is None:
                assert (units, count) == (0, 0)
            else:
                assert abs(usage.units - units) < Decimal("1e-11")
                assert usage.events_count == count


def test_how_far_back_a_day_looks() -> None:
    assert {kind: reach_of(metric(kind, False)) for kind in AGGREGATIONS} == {
        aggregations.COUNT: Reach.DAY,
        aggregations.SUM: Reach.DAY,
        aggregations.MAX: Reach.DAY,
        aggregations.UNIQUE_COUNT: Reach.DAY,
        aggregations.LATEST: Reach.PERIOD,
        aggregations.WEIGHTED_SUM: Reach.PERIOD,
        aggregations.CUSTOM: Reach.PERIOD,
    }
    for kind in (*RECURRING, aggregations.CUSTOM):
        assert reach_of(metric(kind, True)) is Reach.EVER


@given(st.sampled_from(TIMEZONES), st.integers(0, 5_000), st.integers(1, 9_000))
def test_the_days_of_a_life_tile_it(timezone: str, start: int, length: int) -> None:
    origin = datetime(2011, 12, 28, tzinfo=UTC)  # Apia has no 30 December
    life = Period(origin + timedelta(minutes=start), origin + timedelta(minutes=start + length))
    at, each = life.from_, local_date(life.from_, timezone)
    while at < life.to:
        day = day_of(each, life, timezone, opened_at=life.from_)
        assert day.part.from_ == at
        assert day.opens_period == (at == life.from_)
        at, each = day.part.to, each + timedelta(days=1)
    assert at == life.to
