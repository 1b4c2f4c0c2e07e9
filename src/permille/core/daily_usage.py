"""Usage by day: what a metric comes to on each local day of a subscription, for charts and for its own reports.

A day's units are of that day's events alone where they can be added up or compared: a sum, a count, a maximum,
distinct values. What stands until it is changed shows as it stands at the end of the day: what recurs, from the
first event on, and the newest value, from the start of the billing period on. A weighted sum is the average of
its level over the whole day. Nothing is rounded, so that the days of a sum add up to the period.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from permille.core.billable_metric import BillableMetric
from permille.core.fee import Dimensions
from permille.core.period import Period, midnight, seconds_of
from permille.core.usage import (
    EMPTY,
    AggregationType,
    Partial,
    Usage,
    aggregate,
    events_taken,
    merge,
    standing_at,
)

Series = Iterable[tuple[Dimensions, Partial]]
Place = TypeVar("Place", bound=Hashable)


class Reach(StrEnum):
    """How far back the events reach that a day's units are made of."""

    DAY = "day"
    PERIOD = "period"
    EVER = "ever"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A local day as far as it is subscribed; `part` is empty where there is no such day."""

    date: date
    part: Period
    seconds: int
    """Of the whole day."""
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
    """A sum of all time stands, like distinct values of all time; so do a level and the newest value."""
    if metric.recurring:
        return Reach.EVER
    standing = (AggregationType.LATEST, AggregationType.WEIGHTED_SUM)
    return Reach.PERIOD if metric.aggregation_type in standing else Reach.DAY


def fold_days(
    metric: BillableMetric,
    before: Series,
    days: Sequence[tuple[Day, Series]],
    *,
    place_of: Callable[[Dimensions], Place],
) -> list[dict[Place, Usage]]:
    """Of each day what every place has used; places without usage are left out.

    `before` is what stood before the first day, as far back as the metric reaches, and each day has its own
    events: no event is read twice. `events_count` is of the day alone.
    """
    reach = reach_of(metric)
    standing = _by_place(before, place_of) if reach is not Reach.DAY else {}
    found: list[dict[Place, Usage]] = []
    for day, series in days:
        if reach is Reach.DAY or (reach is Reach.PERIOD and day.opens_period):
            standing = {}
        own = _by_place(series, place_of)
        used = {
            place: _day_usage(metric, standing.get(place, EMPTY), own.get(place, EMPTY), day)
            for place in {**standing, **own}
        }
        found.append({place: usage for place, usage in used.items() if usage.units or usage.events_count})
        for place, partial in own.items():
            standing[place] = merge(standing.get(place, EMPTY), partial)
    return found


def _by_place(series: Series, place_of: Callable[[Dimensions], Place]) -> dict[Place, Partial]:
    found: dict[Place, Partial] = {}
    for dimensions, partial in series:
        place = place_of(dimensions)
        found[place] = merge(found.get(place, EMPTY), partial)
    return found


def _day_usage(metric: BillableMetric, before: Partial, own: Partial, day: Day) -> Usage:
    kind = AggregationType(metric.aggregation_type)
    standing = standing_at(before, day.part.from_)
    usage = aggregate(
        merge(standing, own), aggregation_type=kind, period=day.part, period_seconds=day.seconds
    )
    return replace(usage, events_count=events_taken(own, kind))
