"""Custom aggregation: a metric's own rules, carried over its events one after the other.

Each event is seen together with what the events before it have come to. One rule says what the units then are, the
other what the event adds to the amount, in major units of the currency, which the custom charge model bills.
Sources: semantics-metering.md sections 2.4 and 5.10 for what is carried; the language is ours (core.rule).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import localcontext
from itertools import chain
from typing import Any

from permille.core.billable_metric import BillableMetric
from permille.core.event import property_text
from permille.core.expression import EvaluationError, Event, Value, as_value
from permille.core.instants import EPOCH
from permille.core.money import ZERO
from permille.core.pricing.custom import CUSTOM_PROPERTIES
from permille.core.rule import DIGITS, Rule, read_rule
from permille.core.usage import CustomEvent, Instance, Partial

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Aggregator:
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


def fold(
    aggregator: Aggregator, runs: Iterable[Sequence[CustomEvent]], properties: Mapping[str, Any]
) -> Partial:
    """What the events come to by the rules, in the order of time, then of arrival.

    Both rules see the state before the event; then total_units is replaced, and amount is added. An event for
    which either of them has no value (a property that it looks at is missing, null or no number where one is
    wanted; a division by zero; more than DIGITS_MAX digits) changes nothing and does not count, as an event
    without a number does not for a sum. In the answer each value is what its event changed the units by.
    """
    custom = custom_values(properties)
    total_units, amount = ZERO, ZERO
    changes: list[Instance] = []
    with localcontext(DIGITS):
        for at, seq, texts in sorted(chain.from_iterable(runs), key=_place):
            event = Event(
                aggregator.code,
                (at - EPOCH) // _SECOND,
                dict(zip(aggregator.properties, texts, strict=True)),
                total_units,
                amount,
                custom,
            )
            try:
                reached, added = aggregator.total_units.number(event), aggregator.amount.number(event)
            except EvaluationError:
                continue
            changes.append((at, seq, reached - total_units))
            total_units, amount = reached, amount + added
    return Partial(
        events_count=len(changes),
        values_count=len(changes),
        sum=total_units,
        values=tuple(changes),
        custom_amount=amount,
    )


def _place(event: CustomEvent) -> tuple[datetime, int]:
    return event[0], event[1]
