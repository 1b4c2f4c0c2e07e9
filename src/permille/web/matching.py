"""What an event counts as: its metric, its units, and the price of each plan that it would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from permille.core.contract.plan import Charge, Plan, charges_on, leaves_unpriced, matching_filter
from permille.core.metering.aggregations import Reads
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import Aggregator, aggregator_of, fold_samples
from permille.core.metering.event import EventState, numeric_value, property_text
from permille.core.rating.models import ChargeModel
from permille.core.record import Record, replace
from permille.web import calculator
from permille.web.shown import values_text


class Match(Record, kw_only=True):
    """A price of a plan that the event gets; `filter_name` None is the charge's own price."""

    plan: Plan
    charge: Charge
    filter_name: str | None
    properties: Mapping[str, Any]
    is_unpriced: bool = False
    """Whether it is the charge's own price, and nobody has decided that it is one."""
    amount: Decimal | None = None
    """What the event would cost by itself, unrounded, where its units alone say it."""


class Verdict(Record, kw_only=True):
    """Whether and as what an event counts."""

    counts: bool
    reason: str
    metric: BillableMetric | None = None
    units: str | None = None
    dimensions: Mapping[str, str | None] | None = None
    strange: tuple[str, ...] = ()
    """Dimensions whose value the metric does not list: the event gets the default price."""
    matches: tuple[Match, ...] = ()

    @property
    def state(self) -> EventState:
        """What becomes of it where a subscription has any of the plans."""
        if not self.counts:
            return EventState.IGNORED
        if any(match.is_unpriced for match in self.matches):
            return EventState.UNPRICED
        return EventState.COUNTS


def verdict(metric: BillableMetric | None, code: str, properties: Any, plans: Sequence[Plan]) -> Verdict:
    """What the event is for the metric of its code (None: there is none) and for the plans that price it."""
    if metric is None:
        return Verdict(
            counts=False,
            reason=f"No metric has the code “{code}”. The event is kept, and counts once there is one.",
        )
    given = properties if isinstance(properties, dict) else {}
    dimensions = metric.dimension_texts(given)
    matches = [_match(plan, charge, dimensions) for plan in plans for charge in charges_on(plan, metric)]
    rules = aggregator_of(metric)
    units, reason = _units(metric, given, matches) if rules is None else _custom_units(rules, given, matches)
    if rules is None and units is not None:
        matches = [_with_amount(match, Decimal(units)) for match in matches]
    return Verdict(
        counts=units is not None,
        reason=reason,
        metric=metric,
        units=units,
        dimensions=dimensions,
        strange=tuple(key for key, value in dimensions.items() if value not in metric.filters[key]),
        matches=tuple(matches),
    )


def _with_amount(match: Match, units: Decimal) -> Match:
    model = ChargeModel(match.charge.charge_model)
    if model not in calculator.MODELS or units < 0:
        return match
    found = calculator.priced(
        model, match.properties, units=units, events=1, currency=match.plan.amount_currency
    )
    return replace(match, amount=found.amount)


def _units(
    metric: BillableMetric, properties: Mapping[str, Any], matches: Sequence[Match]
) -> tuple[str | None, str]:
    """What one event adds, None with the reason when it adds nothing."""
    field, reads = metric.field_name or "", metric.aggregation.reads
    if reads is Reads.NOTHING:
        return "1", "Every event counts as one."
    if reads is Reads.TEXT:
        return _unique_units(field, properties, matches)
    if field not in properties:
        return None, f"It has no property “{field}”, which the metric takes its value from."
    value = numeric_value(properties[field])
    if value is None:
        return None, f"Its “{field}” is not a number, so it counts as nothing."
    return f"{value:f}", f"Its “{field}” is taken."


def _custom_units(
    rules: Aggregator, properties: Mapping[str, Any], matches: Sequence[Match]
) -> tuple[str | None, str]:
    """What the metric's own rules make of the event, were it the first, at the first price that it gets."""
    partial = fold_samples(rules, [properties], matches[0].properties if matches else {})
    if partial.events_count:
        amount = f" and {partial.custom_amount:f} to the amount" if partial.custom_amount else ""
        return f"{partial.sum:f}", f"The metric's own rules give it so many units{amount}, were it the first."
    if rules.custom_properties and not matches:
        return None, "The metric's own rules look at properties of a charge, and no plan prices it yet."
    return None, "The metric's own rules have no value for it: a property is missing or is not a number."


def _unique_units(
    field: str, properties: Mapping[str, Any], matches: Sequence[Match]
) -> tuple[str | None, str]:
    """What an event adds to a count of values. semantics-metering.md sections 2.3 and 5.12.

    In arrears no value is itself one value; in advance an event without a value is neither counted nor paid.
    """
    text = property_text(properties.get(field))
    shown = "the one without a value" if text is None else f"“{text}”"
    operation = property_text(properties.get("operation_type"))
    if operation not in (None, "add", "remove"):
        return None, "Its “operation_type” is neither “add” nor “remove”."
    less = ""
    if not text and any(match.charge.pay_in_advance for match in matches):
        less = f" Where the metric is paid in advance an event without “{field}” is not counted."
        if all(match.charge.pay_in_advance for match in matches):
            return (
                None,
                f"It has no “{field}”, and the metric is paid in advance: only values are counted there.",
            )
    if operation == "remove":
        return "0", f"From then on {shown} is not counted: its “operation_type” is “remove”.{less}"
    return "1", f"Each different “{field}” counts once; this one is {shown}.{less}"


def _match(plan: Plan, charge: Charge, dimensions: Mapping[str, str | None]) -> Match:
    found = matching_filter(charge, dimensions)
    if found is None:
        return Match(
            plan=plan,
            charge=charge,
            filter_name=None,
            properties=charge.properties,
            is_unpriced=leaves_unpriced(charge),
        )
    name = found.invoice_display_name or values_text(found.values)
    return Match(plan=plan, charge=charge, filter_name=name, properties=found.properties)
