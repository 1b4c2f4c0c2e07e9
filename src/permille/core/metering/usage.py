"""Usage: what the events of a period come to, as sums that can be added up in any order.

A Partial is what is kept of some events (a series in an hour, a day, a period). Partials of disjoint events
merge into the Partial of all of them, which an aggregation (core.metering.aggregations) turns into billable units.
Source: semantics-metering.md sections 2.2 to 2.4, PostgreSQL semantics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from types import MappingProxyType

from permille.core.bounds import DIGITS_MAX
from permille.core.instants import EPOCH
from permille.core.money import ZERO, exact

_ROUNDING = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}

Instance = tuple[datetime, int, Decimal]
"""An event as far as order matters: its time, its place in the order of arrival, its value."""

Operation = tuple[datetime, int, str | None, bool]
"""An event's time and place in the order of arrival, the distinct value (None where the property is missing), and whether it was added."""

CustomEvent = tuple[datetime, int, tuple[str | None, ...]]
"""An event's time and place in the order of arrival, and the texts of the properties that a custom aggregation looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceEvent:
    """An event of a charge's metric. `seq` is its place in the order of arrival."""

    seq: int
    at: datetime
    dimensions: Mapping[str, str | None]
    value: Decimal | None
    """The number that a sum takes, None without one."""
    text: str | None
    """The value that a unique count takes."""
    is_add: bool | None
    """Whether it adds that value; None for an operation that is neither add nor remove."""
    precise_amount_cents: Decimal = ZERO
    texts: tuple[str | None, ...] = ()
    """What the rules of a custom aggregation look at."""


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
    carried_over_count: int = 0
    """How many of the values are carried over from before the period."""
    carried_over_events_count: int = 0
    """How many of the events are carried over from before the period."""
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
            carried_over_count=a.carried_over_count + b.carried_over_count,
            carried_over_events_count=a.carried_over_events_count + b.carried_over_events_count,
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


def rounded(units: Decimal, function: str, precision: int | None) -> Decimal:
    """`round` (half away from zero), `ceil` or `floor` to so many decimals; negative ones are tens, hundreds."""
    digits = max(-DIGITS_MAX, min(DIGITS_MAX, precision or 0))
    with exact():
        return units.quantize(Decimal(1).scaleb(-digits), rounding=_ROUNDING[function])


def carried_over_to(partial: Partial, at: datetime) -> Partial:
    """These events carried over to a later instant: one change of the level then, that is no event of the period."""
    with exact():
        return replace(
            partial,
            moment=partial.sum * epoch_seconds(at),
            carried_over_count=partial.values_count,
            carried_over_events_count=partial.events_count,
        )


def epoch_seconds(at: datetime) -> Decimal:
    """Seconds since 1970, to the microsecond."""
    return Decimal((at - EPOCH) // timedelta(microseconds=1)).scaleb(-6)
