"""Cost: what a provider bills for usage of its models.

The provider's own figure counts where it was in the answer: it is an event of `llm_cost`, and the other events of that
call say so by COST_SOURCE. All other usage costs what the price catalogue says for the UTC date on which it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from permille.core.llm.catalogue.prices import PriceSource
from permille.core.llm.catalogue.rows import CONTEXTS, NO_REGION, STANDARD, TEXT, Conditions, Measure
from permille.core.llm.parts import Metric
from permille.core.money import ZERO, exact

COST_SOURCE = "cost_source"
FROM_PROVIDER = "provider"
PRICED_BY = ("provider", "model", "type", "modality", "tier", "context", "region")
"""The properties of an event that its price depends on."""
COSTED_BY = (*PRICED_BY, COST_SOURCE)

Dimensions = Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredUsage:
    """Usage of a metric with the same dimensions, within a time in which its price does not change."""

    metric: str
    dimensions: Dimensions
    on: date
    """The UTC date since which its price is the same, or a later one."""
    quantity: Decimal
    events_count: int
    values_count: int
    """How many of the events have a quantity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What usage costs in US dollars, and what of it has no known cost."""

    amount: Decimal = ZERO
    uncosted_quantity: Decimal = ZERO
    uncosted_events: int = 0


def value_field(metric: str) -> str:
    """The property of the events of a metric that is added up."""
    return "cost" if metric == Metric.COST else "quantity"


def cost_of(used: MeteredUsage, catalogue: PriceSource) -> Cost:
    """What a provider bills for usage. Events without a quantity have no known cost."""
    without = used.events_count - used.values_count
    if used.metric == Metric.COST:
        return Cost(amount=used.quantity, uncosted_events=without)
    if used.dimensions.get(COST_SOURCE) == FROM_PROVIDER:
        return Cost()
    provider, model = used.dimensions.get("provider") or "", used.dimensions.get("model") or ""
    measure = measure_of(used.metric, used.dimensions)
    price = catalogue.price(provider, model, measure, conditions_of(used.dimensions), on=used.on)
    if price is None:
        return Cost(uncosted_quantity=used.quantity, uncosted_events=used.events_count)
    with exact():
        return Cost(amount=price.row.rate.of(used.quantity), uncosted_events=without)


def measure_of(metric: str, dimensions: Dimensions) -> Measure:
    """What is counted by events of these dimensions."""
    return Measure(metric, dimensions.get("type") or "", dimensions.get("modality") or TEXT)


def conditions_of(dimensions: Dimensions) -> Conditions:
    """What else the price of events of these dimensions depends on."""
    tier, region = dimensions.get("tier") or STANDARD, dimensions.get("region") or NO_REGION
    return Conditions(tier, context_of(dimensions), region)


def context_of(dimensions: Dimensions) -> int:
    """The size of the request's input that events say; 0 where they say none."""
    text = dimensions.get("context") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(CONTEXTS[-1])) else 0
