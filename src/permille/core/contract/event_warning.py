"""What will not count of an event that was taken, or will count without a price, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from permille.core.contract.plan import Charge, Plan, charges_on, leaves_unpriced, matching_filter
from permille.core.contract.subscription import Subscription, running_at
from permille.core.metering.aggregations import Needs, Reads
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import aggregator_of, fold_samples
from permille.core.metering.event import is_add, numeric_value, property_text
from permille.core.record import Record


class EventWarning(Record, kw_only=True):
    """A code under the name of a field; `allowed` are the values that it takes, when they are a closed set."""

    field: str
    code: str
    allowed: tuple[str, ...] = ()


class TakenEvent(Record, kw_only=True):
    """An event as it was stored, with what its expression made."""

    external_subscription_id: str | None
    at: datetime
    properties: Mapping[str, Any]


def event_warnings(
    event: TakenEvent,
    *,
    metric: BillableMetric | None,
    history: Sequence[Subscription],
    plan: Plan | None,
    is_too_late: bool = False,
) -> list[EventWarning]:
    """Everything that keeps the event from being counted and priced; nothing when it will be.

    `metric` is the one of its code, `history` every subscription with its external id, `plan` that of the
    subscription which runs at its time; `is_too_late` whether the invoice of its period is final already.
    """
    found = list(_of_subscription(event, history))
    if is_too_late:
        found.append(EventWarning(field="timestamp", code="period_is_billed"))
    if metric is None:
        return [EventWarning(field="code", code="billable_metric_not_found"), *found]
    charges = charges_on(plan, metric) if plan else []
    found += _of_value(event, metric, charges)
    found += _of_dimensions(event, metric)
    return found if plan is None else [*found, *_of_price(event, charges)]


def _of_subscription(event: TakenEvent, history: Sequence[Subscription]) -> Iterator[EventWarning]:
    if not event.external_subscription_id:
        yield EventWarning(field="external_subscription_id", code="value_is_mandatory")
    elif not history:
        yield EventWarning(field="external_subscription_id", code="subscription_not_found")
    elif running_at(history, event.at) is None:
        yield EventWarning(field="timestamp", code="no_subscription_at_that_time")


def _of_value(event: TakenEvent, metric: BillableMetric, charges: Sequence[Charge]) -> Iterator[EventWarning]:
    aggregation, given = metric.aggregation, event.properties
    rules = aggregator_of(metric)
    if aggregation.reads is Reads.NOTHING:
        return
    if rules is not None:
        # What they make of the event may hang on a charge's own properties: then there is nothing to say here.
        if not rules.custom_properties and not fold_samples(rules, [given], {}).events_count:
            yield EventWarning(field="properties", code="no_units")
        return
    name = metric.field_name or ""
    if given.get(name) is None:
        # In arrears events without the property are one more distinct value.
        if aggregation.needs is not Needs.UNIQUES or any(charge.pay_in_advance for charge in charges):
            yield EventWarning(field=f"properties.{name}", code="value_is_mandatory")
    elif aggregation.reads is Reads.NUMBER and numeric_value(given[name]) is None:
        yield EventWarning(field=f"properties.{name}", code="value_is_not_valid_number")
    operation = property_text(given.get("operation_type"))
    if aggregation.needs is Needs.UNIQUES and is_add(operation) is None:
        yield EventWarning(
            field="properties.operation_type", code="value_is_invalid", allowed=("add", "remove")
        )


def _of_dimensions(event: TakenEvent, metric: BillableMetric) -> Iterator[EventWarning]:
    for key, text in metric.dimension_texts(event.properties).items():
        listed = metric.filters[key]
        if text not in listed:
            code = "value_is_mandatory" if text is None else "value_is_not_listed"
            yield EventWarning(field=f"properties.{key}", code=code, allowed=listed)


def _of_price(event: TakenEvent, charges: Sequence[Charge]) -> Iterator[EventWarning]:
    if not charges:
        yield EventWarning(field="code", code="not_priced")
    for charge in charges:
        dimensions = charge.metric.dimension_texts(event.properties)
        if leaves_unpriced(charge) and matching_filter(charge, dimensions) is None:
            yield EventWarning(field="properties", code="unpriced")
            return
