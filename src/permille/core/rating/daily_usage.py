"""Usage by day: what a metric comes to on each local day of a subscription, for charts and for its own reports.

A day's units are of that day's events alone where they can be added up or compared: a sum, a count, a maximum,
distinct values. Units that last until they are changed show as they are at the end of the day: recurring ones, from the
first event on, and the newest value, from the start of the billing period on. A weighted sum is the average of
its level over the whole day. A day of a custom aggregation has what its events have changed the units by. Nothing is
rounded, so that the days of a sum add up to the period.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import fold
from permille.core.metering.usage import (
    EMPTY,
    Instance,
    Partial,
    Usage,
    carried_over_to,
    merge,
)
from permille.core.money import ZERO, exact
from permille.core.period import Period, midnight, seconds_of
from permille.core.rating.charge import CompiledCharge, Dimensions, series_place
from permille.core.rating.filters import Group
from permille.core.record import Record

Series = Iterable[tuple[Dimensions, Partial]]
Key = TypeVar("Key", bound=Hashable)


class Reach(StrEnum):
    """How far back the events reach that a day's units are made of."""

    DAY = "day"
    PERIOD = "period"
    EVER = "ever"


class Day(Record, kw_only=True):
    """A local day as far as it is subscribed; `part` is empty where there is no such day."""

    date: date
    part: Period
    seconds: int
    """Seconds of the whole day."""
    opens_period: bool
    """Whether a billing period starts with the part."""


def day_of(day: date, life: Period, timezone: str, *, opened_at: datetime) -> Day:
    """The part of a local day that lies in a subscription's life, which it touches.

    `opened_at` is when the billing period of the day started, or the subscription in it.
    """
    whole = Period(midnight(day, timezone), midnight(day + timedelta(days=1), timezone))
    from_ = max(whole.from_, life.from_)
    return Day(
        date=day,
        part=Period(from_, max(from_, min(whole.to, life.to))),
        seconds=seconds_of(whole),
        opens_period=opened_at >= from_,
    )


def reach_of(metric: BillableMetric) -> Reach:
    """Recurring units reach back to the first event; levels, newest values and custom units to the period's start."""
    if metric.recurring:
        return Reach.EVER
    return Reach.PERIOD if metric.aggregation.lasts else Reach.DAY


def fold_days(
    metric: BillableMetric,
    before: Series,
    days: Sequence[tuple[Day, Series]],
    *,
    place_of: Callable[[Dimensions], Key],
) -> list[dict[Key, Usage]]:
    """The usage of every place on each day; places without usage are left out.

    `before` is what was carried over into the first day, as far back as the metric reaches, and each day has its own
    events: no event is read twice. `events_count` is of the day alone.
    """
    reach = reach_of(metric)
    carried_over = _by_place(before, place_of) if reach is not Reach.DAY else {}
    found: list[dict[Key, Usage]] = []
    for day, series in days:
        if reach is Reach.DAY or (reach is Reach.PERIOD and day.opens_period):
            carried_over = {}
        own = _by_place(series, place_of)
        used = {
            place: _day_usage(metric, carried_over.get(place, EMPTY), own.get(place, EMPTY), day)
            for place in {**carried_over, **own}
        }
        found.append({place: usage for place, usage in used.items() if usage.units or usage.events_count})
        for place, partial in own.items():
            carried_over[place] = merge(carried_over.get(place, EMPTY), partial)
    return found


def _by_place(series: Series, place_of: Callable[[Dimensions], Key]) -> dict[Key, Partial]:
    found: dict[Key, Partial] = {}
    for dimensions, partial in series:
        place = place_of(dimensions)
        found[place] = merge(found.get(place, EMPTY), partial)
    return found


def _day_usage(metric: BillableMetric, before: Partial, own: Partial, day: Day) -> Usage:
    carried_over = carried_over_to(before, day.part.from_)
    usage = metric.aggregation.aggregate(
        merge(carried_over, own), period=day.part, period_seconds=day.seconds
    )
    return usage._replace(events_count=metric.aggregation.events_counted(own))


def fold_custom_days(
    charge: CompiledCharge, before: Series, days: Sequence[tuple[Day, Series]], *, recurring: bool
) -> list[dict[tuple[int, Group], Usage]]:
    """The same of a charge on a custom aggregation, whose rules look at the charge's own properties."""
    found: list[dict[tuple[int, Group], Usage]] = [{} for _ in days]
    starts = [n for n, (day, _) in enumerate(days) if n and day.opens_period and not recurring]
    for first, end in zip([0, *starts], [*starts, len(days)], strict=True):
        series = [each for _, own in days[first:end] for each in own]
        if not first and (recurring or not (days and days[0][0].opens_period)):
            series += before
        for place, values in _custom_values(charge, series):
            for n in range(first, end):
                usage = _custom_usage(values, days[n][0], recurring=recurring)
                if usage.units or usage.events_count:
                    found[n][place] = usage
    return found


def _custom_values(
    charge: CompiledCharge, series: Series
) -> list[tuple[tuple[int, Group], Sequence[Instance]]]:
    """The changes of units by place, in order."""
    assert charge.aggregator is not None, charge.charge_id
    by_place = _by_place(series, lambda dimensions: series_place(charge, dimensions))
    return [
        (place, fold(charge.aggregator, partial.custom_events, charge.buckets[place[0]].properties).values)
        for place, partial in by_place.items()
    ]


def _custom_usage(values: Sequence[Instance], day: Day, *, recurring: bool) -> Usage:
    first, end = (bisect_left(values, at, key=lambda each: each[0]) for at in (day.part.from_, day.part.to))
    with exact():
        units = sum((change for _, _, change in values[0 if recurring else first : end]), ZERO)
    return Usage(units, end - first, units)
