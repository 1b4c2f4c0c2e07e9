"""What an event would cost, without storing it. Source: semantics-metering.md sections 1.9 and 1.10.

An estimate prices the event on top of all that is there, by the same functions that bill it; an instant
estimate prices it alone, by its rate, without allowances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotFound, Unevaluable
from permille.core.invoice.tax_choice import taxes_of_charge
from permille.core.metering.aggregations import Aggregation, Reads
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import aggregator_of
from permille.core.metering.event import is_add, numeric_value, property_text, property_texts
from permille.core.metering.expression import (
    EvaluationError,
    Event,
    is_too_much,
    read_expression,
    value_text,
)
from permille.core.metering.usage import AdvanceEvent
from permille.core.money import ZERO
from permille.core.rating.advance import fee_of_nothing, instant_fee, units_alone
from permille.core.rating.fee import Fee
from permille.core.rating.models import ChargeModel, model_of
from permille.core.record import Record, replace
from permille.core.tax import Taxed, tax_fee
from permille.events.log import TOO_MUCH_WORK
from permille.store import billable_metrics, customers, plans, subscriptions
from permille.usecases.usage import levels
from permille.usecases.usage.levels import AdvanceTerms
from permille.usecases.usage.windows import running_plan

_NO_CHARGE = {"code": ["does_not_match_an_instant_charge"]}


class EstimatedEvent(Record, kw_only=True):
    """An event that was not sent."""

    code: str
    transaction_id: str | None
    external_subscription_id: str
    is_timed: bool
    """Whether it came with a timestamp that can be one, or without any."""
    properties: Mapping[str, Any]
    precise_amount_cents: Decimal


class Estimate(Record, kw_only=True):
    """A fee that an event would make, with its taxes."""

    terms: AdvanceTerms
    fee: Fee
    taxed: Taxed


def estimate(
    conn: Connection[Any], organization_id: UUID, event: EstimatedEvent, *, now: datetime
) -> list[Estimate]:
    """The fees that the event would make now: one for each charge in advance on its metric.

    Raises NotFound (subscription, billable_metric), Invalid (timestamp, properties, code) and Unevaluable; of several
    the first in Lago's order: subscription, timestamp, billable_metric, properties, code, expression.
    """
    every = _terms(conn, organization_id, event.external_subscription_id, {event.code}, now=now)
    if not event.is_timed:
        raise Invalid({"timestamp": ["invalid_format"]})
    metric = billable_metrics.by_code(conn, organization_id, event.code)
    if metric is None:
        raise NotFound("billable_metric")
    sent = event.properties.get(metric.field_name or "")
    if _wants_number(metric.aggregation) and sent is not None and numeric_value(sent) is None:
        raise Invalid({"properties": ["value_is_not_valid_number"]})
    if not every:
        raise Invalid(_NO_CHARGE)
    one = _advance_event(event, metric, _derived(event, metric, now), now)
    histories = levels.read_histories(conn, [(terms, {levels.LAST_SEQ}) for terms in every])
    carried = levels.Carried.read(conn, every)
    found = []
    for terms, history in zip(every, histories, strict=True):
        with_it = replace(history, events=[*history.events, one])
        fees, _ = levels.price(terms, with_it, billed={levels.LAST_SEQ})
        fee = carried.next(terms, fees[0][1] if fees else _fee_of_nothing(terms, one))
        found.append(_taxed(terms, replace(fee, amount_details={})))
    return found


def _wants_number(aggregation: Aggregation) -> bool:
    """Whether a text is refused. As in Lago that of a weighted sum is not, since no charge in advance is on one."""
    return aggregation.reads is Reads.NUMBER and not aggregation.is_by_time


def _terms(
    conn: Connection[Any], organization_id: UUID, external_id: str, codes: set[str] | None, *, now: datetime
) -> list[AdvanceTerms]:
    """Those of the running subscription for events of these codes; of all its charges without codes."""
    row = subscriptions.active(conn, organization_id, external_id)
    if row is None:
        raise NotFound("subscription")
    plan = plans.plan_by_id(conn, row.plan_id)
    customer = customers.of_subscriptions(conn, [row])[row.id]
    priced = running_plan(row, plan, customer, at=now)
    wanted = sorted({charge.metric.code for charge in priced.charges}) if codes is None else sorted(codes)
    return [each for code in wanted for each in levels.terms_of(row, plan, customer, code=code, at=now)]


def _derived(event: EstimatedEvent, metric: BillableMetric, now: datetime) -> Mapping[str, Any]:
    """The properties with what the metric's expression makes of them."""
    if metric.expression is None or metric.field_name is None:
        return event.properties
    try:
        value = read_expression(metric.expression).evaluate(
            Event(event.code, int(now.timestamp()), event.properties)
        )
    except EvaluationError as error:
        raise Unevaluable(f"expression_evaluation_failed: {error}") from error
    return {**event.properties, metric.field_name: value_text(value)}


def _advance_event(
    event: EstimatedEvent, metric: BillableMetric, properties: Mapping[str, Any], now: datetime
) -> AdvanceEvent:
    value = properties.get(metric.field_name or "")
    aggregator = aggregator_of(metric)
    looked_at = aggregator.properties if aggregator else ()
    return AdvanceEvent(
        seq=levels.LAST_SEQ,
        at=now,
        dimensions=property_texts(properties),
        value=numeric_value(value),
        text=property_text(value),
        is_add=is_add(property_text(properties.get("operation_type"))),
        precise_amount_cents=event.precise_amount_cents,
        texts=tuple(property_text(properties.get(name)) for name in looked_at),
    )


def _fee_of_nothing(terms: AdvanceTerms, one: AdvanceEvent) -> Fee:
    return fee_of_nothing(
        terms.compiled,
        one,
        subscription_id=terms.row.id,
        period=terms.period,
        proration=terms.proration,
    )


def _taxed(terms: AdvanceTerms, fee: Fee) -> Estimate:
    taxes = taxes_of_charge(terms.charge, terms.plan, terms.customer)
    return Estimate(terms=terms, fee=fee, taxed=tax_fee(fee.amount_cents, fee.precise_amount_cents, taxes))


class InstantEstimate(Record, kw_only=True):
    """A fee by the rate alone."""

    terms: AdvanceTerms
    event: EstimatedEvent
    fee: Fee


def estimate_instantly(
    conn: Connection[Any], organization_id: UUID, events: Sequence[EstimatedEvent], *, now: datetime
) -> list[InstantEstimate]:
    """Each event priced by itself, by the charges in advance that are standard or a percentage.

    By subscription in the order of their first events; an event that no such charge is for adds nothing. Raises
    NotFound (subscription), Invalid (code, when a subscription has no such charge at all; properties), Unevaluable.
    """
    of_subscription: dict[str, list[EstimatedEvent]] = {}
    for event in events:
        of_subscription.setdefault(event.external_subscription_id, []).append(event)
    chosen: list[tuple[AdvanceTerms, EstimatedEvent]] = []
    for external_id, own in of_subscription.items():
        codes = {event.code for event in own} if len(events) == 1 else None
        every = [
            terms
            for terms in _terms(conn, organization_id, external_id, codes, now=now)
            if model_of(ChargeModel(terms.charge.charge_model)).has_instant_price
        ]
        if not every:
            raise Invalid(_NO_CHARGE)
        chosen += [
            (terms, event) for event in own for terms in every if terms.charge.metric.code == event.code
        ]
    words = sum(_words(terms.charge.metric) for terms, _ in chosen)
    if is_too_much(words, len(events)):
        raise Unevaluable(TOO_MUCH_WORK)
    return [
        InstantEstimate(terms=terms, event=event, fee=_instant_fee(terms, event, now))
        for terms, event in chosen
    ]


def _words(metric: BillableMetric) -> int:
    """Words of the metric's expression."""
    return read_expression(metric.expression).words if metric.expression else 0


def _instant_fee(terms: AdvanceTerms, event: EstimatedEvent, now: datetime) -> Fee:
    metric = terms.charge.metric
    properties = _derived(event, metric, now)
    one = _advance_event(event, metric, properties, now)
    return instant_fee(
        terms.compiled,
        one,
        units=units_alone(terms.compiled, one) if metric.custom_aggregator else _units(metric, properties),
        subscription_id=terms.row.id,
        period=terms.period,
    )


def _units(metric: BillableMetric, properties: Mapping[str, Any]) -> Decimal:
    """One event's worth: its number, 0 without the property, 1 of a metric that counts."""
    if metric.field_name is None:
        return Decimal(1)
    sent = properties.get(metric.field_name)
    if sent is None:
        return ZERO
    if metric.aggregation.reads is Reads.TEXT:
        return Decimal(1) if property_text(sent) else ZERO
    value = numeric_value(sent)
    if value is None:
        raise Invalid({"properties": ["value_is_not_valid_number"]})
    return value
