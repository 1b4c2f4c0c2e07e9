"""Usage: what the events of a period come to, as sums that can be added up in any order.

A Partial is what is kept of some events (a series in an hour, a day, a period). Partials of disjoint events
merge into the Partial of all of them; `aggregate` turns the last one into billable units.
Source: semantics-metering.md sections 2.2 to 2.4, PostgreSQL semantics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

from permille.core.instants import EPOCH
from permille.core.metering.event import DIGITS_MAX
from permille.core.money import ZERO, exact
from permille.core.period import INSTANT, Period


class AggregationType(StrEnum):
    """How a metric's events become units."""

    COUNT = "count_agg"
    SUM = "sum_agg"
    MAX = "max_agg"
    UNIQUE_COUNT = "unique_count_agg"
    WEIGHTED_SUM = "weighted_sum_agg"
    LATEST = "latest_agg"
    CUSTOM = "custom_agg"


_OF_ALL_EVENTS = (AggregationType.COUNT, AggregationType.UNIQUE_COUNT, AggregationType.CUSTOM)
_ROUNDING = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
_WEIGHTED_SUM_DIGITS = Decimal(1).scaleb(-16)

Instance = tuple[datetime, int, Decimal]
"""An event as far as order matters: its time, its place in the order of arrival, its value."""

Operation = tuple[datetime, int, str | None, bool]
"""Time and place likewise, the distinct value (None where the property is missing), and whether it was added."""

CustomEvent = tuple[datetime, int, tuple[str | None, ...]]
"""Time and place likewise, and the texts of the properties that a custom aggregation looks at."""


_NO_UNIQUES: Mapping[str | None, tuple[datetime, int, bool]] = MappingProxyType({})


def _no_uniques() -> Mapping[str | None, tuple[datetime, int, bool]]:
    return _NO_UNIQUES


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """What is kept of a set of events."""

    events_count: int = 0
    """All events."""
    values_count: int = 0
    """Events whose value is a number; all the following are about them."""
    sum: Decimal = ZERO
    moment: Decimal = ZERO
    """Sum of each value times its instant, in seconds since 1970: what a weighted sum is made of."""
    standing_count: int = 0
    """Of the values those that are from before the period."""
    standing_events_count: int = 0
    """Of the events likewise."""
    max: Decimal | None = None
    last: Instance | None = None
    """The newest by time, then by arrival."""
    uniques: Mapping[str | None, tuple[datetime, int, bool]] = field(default_factory=_no_uniques)
    """Distinct value -> time and arrival of its last operation, and whether that was an add."""
    precise_amount_cents: Decimal = ZERO
    """Sum of the events' precise_total_amount_cents."""
    operations: tuple[Operation, ...] = ()
    """Each add and removal of a distinct value in order. Kept only for prorated charges."""
    values: tuple[Instance, ...] = ()
    """Each value in order, or those of a day as one. Kept only where the price looks at more than their sum."""
    custom_events: tuple[tuple[CustomEvent, ...], ...] = ()
    """Each event as custom aggregations see it, by the sets that were merged. Only these look at them."""
    custom_amount: Decimal = ZERO
    """What a custom aggregation has added up, in major units; of what is paid in advance, the most that it was."""


EMPTY = Partial()


def merge(a: Partial, b: Partial) -> Partial:
    """The Partial of the events of both, which have none in common. In any order, however grouped."""
    if not a.events_count:
        return b
    if not b.events_count:
        return a
    with exact():
        return Partial(
            events_count=a.events_count + b.events_count,
            values_count=a.values_count + b.values_count,
            sum=a.sum + b.sum,
            moment=a.moment + b.moment,
            standing_count=a.standing_count + b.standing_count,
            standing_events_count=a.standing_events_count + b.standing_events_count,
            max=b.max if a.max is None or (b.max is not None and b.max > a.max) else a.max,
            last=b.last if a.last is None or (b.last is not None and b.last > a.last) else a.last,
            uniques=_merged_uniques(a.uniques, b.uniques),
            precise_amount_cents=a.precise_amount_cents + b.precise_amount_cents,
            operations=_in_order(a.operations, b.operations),
            values=tuple(sorted(a.values + b.values)) if b.values else a.values,
            custom_events=a.custom_events + b.custom_events,
            custom_amount=a.custom_amount + b.custom_amount,
        )


def _in_order(a: tuple[Operation, ...], b: tuple[Operation, ...]) -> tuple[Operation, ...]:
    return tuple(sorted(a + b, key=lambda each: each[:2])) if a and b else a or b


def _merged_uniques(
    a: Mapping[str | None, tuple[datetime, int, bool]], b: Mapping[str | None, tuple[datetime, int, bool]]
) -> Mapping[str | None, tuple[datetime, int, bool]]:
    if not (a and b):
        return a or b
    merged = dict(a)
    for value, operation in b.items():
        known = merged.get(value)
        merged[value] = operation if known is None or operation > known else known
    return merged


@dataclass(frozen=True, slots=True)
class Usage:
    """Billable units, how many events made them, and the level before any weighting by time."""

    units: Decimal
    events_count: int
    total_aggregated_units: Decimal


NO_USAGE = Usage(ZERO, 0, ZERO)


def takes_part(partial: Partial, aggregation_type: AggregationType) -> bool:
    """Whether any of the events counts for the aggregation."""
    return events_taken(partial, aggregation_type) > 0


def with_values(partial: Partial) -> Partial:
    """What a unique count in advance is made of: an event without a value is not paid, and not counted."""
    return replace(
        partial,
        uniques={text: last for text, last in partial.uniques.items() if text},
        operations=tuple(each for each in partial.operations if each[2]),
    )


def counts_every_event(aggregation_type: AggregationType) -> bool:
    """Whether events without a number count too."""
    return aggregation_type in _OF_ALL_EVENTS


def events_taken(partial: Partial, aggregation_type: AggregationType) -> int:
    """How many of the events count for the aggregation: those without a number don't for most of them."""
    return partial.events_count if counts_every_event(aggregation_type) else partial.values_count


def aggregate(
    partial: Partial,
    *,
    aggregation_type: AggregationType,
    rounding_function: str | None = None,
    rounding_precision: int | None = None,
    period: Period | None = None,
    period_seconds: int | None = None,
) -> Usage:
    """The units of a metric, rounded as the metric says.

    The newest value counts as 0 when negative; a maximum may be negative; unique values count as their own
    events. A weighted sum needs the period and the seconds of the whole billing period. The events of a custom
    aggregation are folded before (core.custom_aggregation): their last units are the sum of all changes.
    """
    if aggregation_type is AggregationType.WEIGHTED_SUM:
        usage = _weighted(partial, period, period_seconds)
    else:
        usage = _plain(partial, aggregation_type)
    if rounding_function is None:
        return usage
    units = rounded(usage.units, rounding_function, rounding_precision)
    weighted = aggregation_type is AggregationType.WEIGHTED_SUM
    return Usage(units, usage.events_count, usage.total_aggregated_units if weighted else units)


def _plain(partial: Partial, aggregation_type: AggregationType) -> Usage:
    match aggregation_type:
        case AggregationType.SUM:
            units, count = partial.sum, partial.values_count
        case AggregationType.COUNT:
            units, count = Decimal(partial.events_count), partial.events_count
        case AggregationType.MAX:
            units, count = partial.max or ZERO, partial.values_count
        case AggregationType.LATEST:
            newest = partial.last[2] if partial.last else ZERO
            units, count = max(newest, ZERO), partial.values_count
        case AggregationType.UNIQUE_COUNT:
            count = sum(1 for _, _, present in partial.uniques.values() if present)
            units = Decimal(count)
        case AggregationType.CUSTOM:
            units, count = partial.sum, partial.values_count
        case AggregationType.WEIGHTED_SUM:
            raise ValueError("a weighted sum is weighted by time")
        case _ as never:
            assert_never(never)
    return Usage(units, count, units)


def rounded(units: Decimal, function: str, precision: int | None) -> Decimal:
    """`round` (half away from zero), `ceil` or `floor` to so many decimals; negative ones are tens, hundreds."""
    digits = max(-DIGITS_MAX, min(DIGITS_MAX, precision or 0))
    with exact():
        return units.quantize(Decimal(1).scaleb(-digits), rounding=_ROUNDING[function])


def standing_at(partial: Partial, at: datetime) -> Partial:
    """These events as what stands at a later instant: one change of the level then, that is no event of the period."""
    with exact():
        return replace(
            partial,
            moment=partial.sum * epoch_seconds(at),
            standing_count=partial.values_count,
            standing_events_count=partial.events_count,
        )


def _weighted(partial: Partial, period: Period | None, period_seconds: int | None) -> Usage:
    """The average level over a billing period of `period_seconds`, of which `period` is the part subscribed.

    Each value changes the level from its instant on, and the level stays to the period's end; so it counts for its
    value times the seconds that are left, and the sum of that needs no order. What was before the period stands
    at its start (standing_at). The last instant counts as the whole second that it is in or at: one that ended at
    noon stood until noon. The units have 16 decimals; total_aggregated_units is the level at the end.
    """
    if period is None or period_seconds is None:
        raise ValueError("a weighted sum needs its period")
    with exact():
        end = epoch_seconds(period.to - INSTANT).to_integral_value(ROUND_CEILING)
        weighted = partial.sum * end - partial.moment
        units = (weighted / period_seconds).quantize(_WEIGHTED_SUM_DIGITS)
    return Usage(units, partial.values_count - partial.standing_count, partial.sum)


def epoch_seconds(at: datetime) -> Decimal:
    """Seconds since 1970, to the microsecond."""
    return Decimal((at - EPOCH) // timedelta(microseconds=1)).scaleb(-6)
