"""Billable metrics: what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, UnsetType

from permille.api.objects.base import Answer, CreatedAt, Description, Id, Input, Name, one_of, says
from permille.core.metering.aggregations import AGGREGATIONS

AGGREGATION_TYPES = tuple(each.name for each in AGGREGATIONS)
AggregationType = Annotated[str, one_of(*AGGREGATION_TYPES, says="How events become units.")]
Uncounted = Annotated[
    int | UnsetType, says("Always 0, and left out in some answers: kept for clients of Lago's API.")
]


class Dimension(Answer):
    """A property of events that prices can depend on."""

    key: Annotated[str, says("Name of the event property.", example="model")]
    values: Annotated[list[str], says("Values that can be priced.")]


class BillableMetric(Answer, kw_only=True):
    """What is measured: an event code, and how its events become units."""

    lago_id: Id
    name: Name
    code: Annotated[str, says("Code that events are sent with.", example="tokens")]
    description: Description
    aggregation_type: AggregationType
    weighted_interval: Annotated[str | None, says("Unit of time of a weighted sum: seconds.")]
    recurring: Annotated[bool, says("Whether units carry over into the next period.")]
    rounding_function: Annotated[
        str | None, one_of("round", "ceil", "floor", None, says="How units are rounded.")
    ]
    rounding_precision: Annotated[int | None, says("Decimals that units are rounded to.")]
    created_at: CreatedAt
    field_name: Annotated[
        str | None, says("Event property that is aggregated; null when events are counted.")
    ]
    expression: Annotated[str | None, says("Expression that the aggregated value is computed with.")]
    custom_aggregator: Annotated[
        Mapping[str, str] | UnsetType,
        says("Rules of a custom aggregation: total_units, and amount where it computes one."),
    ] = UNSET
    filters: Annotated[list[Dimension], says("Dimensions that charges can price by.")]
    active_subscriptions_count: Uncounted = UNSET
    draft_invoices_count: Uncounted = UNSET
    plans_count: Uncounted = UNSET


class ExpressionResult(Answer):
    """What an expression yields for an event."""

    value: Annotated[str | None, says("The value as text.")]


class DimensionInput(Input):
    """A property of events that prices can depend on."""

    key: Annotated[str, says("Name of the event property.", example="model")]
    values: Annotated[list[str], says("Values that can be priced.")]


class CustomAggregatorInput(Input):
    """Rules of a custom aggregation."""

    total_units: Annotated[str, says("Expression of the units after an event.")]
    amount: Annotated[str, says("Expression of what an event adds to the amount.")]


class BillableMetricInput(Input):
    """Fields of a metric. Once a plan prices it only name, description and filters change."""

    name: Name
    code: Annotated[str, says("Code that events are sent with.", example="tokens")]
    description: Description
    aggregation_type: AggregationType
    field_name: Annotated[str | None, says("Event property that is aggregated.", example="tokens")]
    recurring: Annotated[bool, says("Whether units carry over into the next period.")]
    rounding_function: Annotated[
        str | None, one_of("round", "ceil", "floor", None, says="How units are rounded.")
    ]
    rounding_precision: Annotated[int | None, says("Decimals that units are rounded to.")]
    weighted_interval: Annotated[str | None, one_of("seconds", None, says="Unit of time of a weighted sum.")]
    expression: Annotated[str | None, says("Expression that the aggregated value is computed with.")]
    custom_aggregator: Annotated[CustomAggregatorInput | None, says("Rules of a custom aggregation.")]
    filters: Annotated[list[DimensionInput], says("All dimensions that charges can price by.")]


class ExpressionEvent(Input):
    """An event to try an expression with."""

    code: Annotated[str, says("Code of the event.")]
    timestamp: Annotated[int | float | str, says("Seconds since 1970, or a date and time.")]
    properties: Annotated[dict[str, Any], says("Properties that the expression can see.")]
