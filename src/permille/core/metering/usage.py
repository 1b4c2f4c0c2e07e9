"""Usage: what the events of a period come to, as sums that can be added up in any order.

A Partial is what is kept of some events (a series in an hour, a day, a period). Partials of disjoint events
merge into the Partial of all of them, which an aggregation (core.metering.aggregations) turns into billable units.
Source: semantics-metering.md sections 2.2 to 2.4, PostgreSQL semantics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import reduce
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from permille.core.bounds import DIGITS_MAX
from permille.core.instants import EPOCH
from permille.core.money import ZERO, exact
from permille.core.record import Record

Item = TypeVar("Item")

_ROUNDING = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}

Instance = tuple[datetime, int, Decimal]
"""An event as far as order matters: its time, its place in the order of arrival, its value."""

Operation = tuple[datetime, int, str | None, bool]
"""An event's time and place in the order of arrival, the distinct value (None where the property is missing), and whether it was added."""

CustomEvent = tuple[datetime, int, tuple[str | None, ...]]
"""An event's time and place in the order of arrival, and the texts of the properties that a custom aggregation looks at."""


class AdvanceEvent(Record, kw_only=True):
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


class Partial(NamedTuple):
    """What is kept of a set of events. A tuple: of a read there are as many as series."""

    events_count: int = 0
    """All events."""
    values_count: int = 0
    """Events whose value is a number; all the following are about them."""
    sum: Decimal = ZERO
    max: Decimal | None = None
    precise_amount_cents: Decimal = ZERO
    """Sum of the events' precise_total_amount_cents."""
    moment: Decimal = ZERO
    """Sum of each value times its instant, in seconds since 1970: what a weighted sum is made of."""
    carried_over_count: int = 0
    """How many of the values are carried over from before the period."""
    carried_over_events_count: int = 0
    """How many of the events are carried over from before the period."""
    last: Instance | None = None
    """The newest by time, then by arrival."""
    uniques: Mapping[str | None, tuple[datetime, int, bool]] = _NO_UNIQUES
    """Distinct value -> time and arrival of its last operation, and whether that was an add."""
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
    return merged((a, b))


def merged(partials: Sequence[Partial]) -> Partial:
    """The Partial of the events of all of these, of which there is one at least, and which have none in common."""
    found = [each for each in partials if each.events_count]
    if len(found) < 2:
        return found[0] if found else partials[-1]
    with exact():
        return Partial(
            events_count=sum([each.events_count for each in found]),
            values_count=sum([each.values_count for each in found]),
            sum=sum([each.sum for each in found], ZERO),
            moment=sum([each.moment for each in found], ZERO),
            carried_over_count=sum([each.carried_over_count for each in found]),
            carried_over_events_count=sum([each.carried_over_events_count for each in found]),
            max=max([each.max for each in found if each.max is not None], default=None),
            last=max([each.last for each in found if each.last is not None], default=None),
            uniques=reduce(_merged_uniques, [each.uniques for each in found]),
            precise_amount_cents=sum([each.precise_amount_cents for each in found], ZERO),
            operations=_joined([each.operations for each in found], key=_when),
            values=_joined([each.values for each in found], key=_itself),
            custom_events=tuple(chain.from_iterable([each.custom_events for each in found])),
            custom_amount=sum([each.custom_amount for each in found], ZERO),
        )


def _itself(instance: Instance) -> Instance:
    return instance


def _when(operation: Operation) -> tuple[Any, ...]:
    return operation[:2]


def _joined(parts: Sequence[tuple[Item, ...]], key: Callable[[Item], Any]) -> tuple[Item, ...]:
    """All of them in one order, each of the parts being in it."""
    some = [part for part in parts if part]
    if len(some) < 2:
        return some[0] if some else ()
    return tuple(sorted(chain.from_iterable(some), key=key))


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


class Usage(NamedTuple):
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
        return partial._replace(
            moment=partial.sum * epoch_seconds(at),
            carried_over_count=partial.values_count,
            carried_over_events_count=partial.events_count,
        )


def epoch_seconds(at: datetime) -> Decimal:
    """Seconds since 1970, to the microsecond."""
    return Decimal((at - EPOCH) // timedelta(microseconds=1)).scaleb(-6)
