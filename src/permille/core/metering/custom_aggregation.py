"""Custom aggregation: a metric's own rules, carried over its events one after the other.

Each event is seen together with what the events before it have come to. One rule says what the units then are, the
other what the event adds to the amount, in major units of the currency, which the custom charge model bills.
Sources: semantics-metering.md sections 2.4 and 5.10 for what is carried; the language is ours (core.rule).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from itertools import chain
from typing import Any

from permille.core.instants import EPOCH
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.event import property_text
from permille.core.metering.expression import EvaluationError, Event, Value, as_value
from permille.core.metering.rule import DIGITS, Rule, read_rule
from permille.core.metering.usage import CustomEvent, Instance, Partial
from permille.core.money import ZERO
from permille.core.record import Record

CUSTOM_PROPERTIES = "custom_properties"
"""The property of a charge that holds what rules look at."""
_SECOND = timedelta(seconds=1)


class Aggregator(Record):
    """The rules of a metric, ready to run."""

    code: str
    total_units: Rule
    amount: Rule
    properties: tuple[str, ...]
    """What the rules look at of an event: its texts in a CustomEvent are in this order."""
    custom_properties: frozenset[str]
    """What they need of the charge."""


def read_aggregator(code: str, total_units: str, amount: str) -> Aggregator:
    """Raises ExpressionError."""
    rules = read_rule(total_units), read_rule(amount)
    return Aggregator(
        code,
        *rules,
        properties=tuple(sorted(rules[0].properties | rules[1].properties)),
        custom_properties=rules[0].custom_properties | rules[1].custom_properties,
    )


def aggregator_of(metric: BillableMetric) -> Aggregator | None:
    """That of a metric with custom aggregation. Without a rule for it, the amount stays 0."""
    rules = metric.custom_aggregator
    return read_aggregator(metric.code, rules["total_units"], rules.get("amount") or "0") if rules else None


def custom_values(properties: Mapping[str, Any]) -> Mapping[str, Value]:
    """The values of a charge's or a filter's valid custom properties: texts that read as numbers are numbers."""
    given = properties.get(CUSTOM_PROPERTIES) or {}
    return {name: as_value(property_text(value) or "") for name, value in given.items()}


class State(Record):
    """What some events have come to."""

    total_units: Decimal = ZERO
    amount: Decimal = ZERO


class Rules(Record):
    """An aggregator with the properties of the price that it runs for."""

    aggregator: Aggregator
    custom_properties: Mapping[str, Value]

    def after(self, state: State, at: datetime, texts: Sequence[str | None]) -> State | None:
        """The state after one more event. Call it under DIGITS.

        Both rules see the state before the event; then total_units is replaced, and amount is added. None for an
        event for which either of them has no value (a property that it looks at is missing, null or no number where
        one is wanted; a division by zero; more than DIGITS_MAX digits): it changes nothing and does not count, as
        an event without a number does not for a sum.
        """
        event = Event(
            self.aggregator.code,
            (at - EPOCH) // _SECOND,
            dict(zip(self.aggregator.properties, texts, strict=True)),
            state.total_units,
            state.amount,
            self.custom_properties,
        )
        try:
            total_units = self.aggregator.total_units.number(event)
            return State(total_units, state.amount + self.aggregator.amount.number(event))
        except EvaluationError:
            return None


def fold_samples(
    aggregator: Aggregator, samples: Iterable[Mapping[str, Any]], properties: Mapping[str, Any]
) -> Partial:
    """What events with the properties of these samples come to by the rules, one after the other, at one instant."""
    run = [
        (EPOCH, seq, tuple(property_text(sample.get(name)) for name in aggregator.properties))
        for seq, sample in enumerate(samples)
    ]
    return fold(aggregator, [run], properties)


def fold(
    aggregator: Aggregator,
    runs: Iterable[Sequence[CustomEvent]],
    properties: Mapping[str, Any],
    *,
    paid_from: datetime | None = None,
) -> Partial:
    """What the events come to by the rules, in the order of time, then of arrival.

    From the instant on from which they are paid in advance, they count in the order of arrival, and the amount is
    the highest since. In the answer each value is what its event changed the units by, in that order.
    """
    rules = Rules(aggregator, custom_values(properties))
    state, billed = State(), ZERO
    changes: list[Instance] = []
    with localcontext(DIGITS):
        for is_paid, at, seq, texts in sorted(_placed(runs, paid_from), key=_order):
            reached = rules.after(state, at, texts)
            if reached is None:
                continue
            changes.append((at, seq, reached.total_units - state.total_units))
            state = reached
            billed = max(billed, state.amount) if is_paid else state.amount
    return Partial(
        events_count=len(changes),
        values_count=len(changes),
        sum=state.total_units,
        values=tuple(changes),
        custom_amount=billed,
    )


_Placed = tuple[bool, datetime, int, tuple[str | None, ...]]
"""An event with whether it is paid in advance."""


def _placed(runs: Iterable[Sequence[CustomEvent]], paid_from: datetime | None) -> Iterable[_Placed]:
    for event in chain.from_iterable(runs):
        yield paid_from is not None and event[0] >= paid_from, *event


def _order(placed: _Placed) -> tuple[Any, ...]:
    is_paid, at, seq, _ = placed
    return (is_paid, seq) if is_paid else (is_paid, at, seq)
