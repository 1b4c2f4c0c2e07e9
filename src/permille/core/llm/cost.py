"""Cost: what a provider bills for usage of its models.

The provider's own figure counts where it was in the answer: it is an event of `llm_cost`, and the other events of that
call say so by COST_SOURCE. All other usage costs what the price catalogue says for the UTC date on which it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from permille.core.llm.catalogue.prices import PriceSource
from permille.core.llm.catalogue.rows import CONTEXTS, NO_REGION, STANDARD, TEXT, Conditions, Measure, Rate
from permille.core.llm.parts import Metric
from permille.core.money import ZERO, exact
from permille.core.record import Record

COST_SOURCE = "cost_source"
FROM_PROVIDER = "provider"
PRICED_BY = ("provider", "model", "type", "modality", "tier", "context", "region")
"""The properties of an event that its price depends on."""
COSTED_BY = (*PRICED_BY, COST_SOURCE)

_AS_SAID = Rate(Decimal(1), 1)

Dimensions = Mapping[str, str | None]


class MeteredUsage(Record, kw_only=True):
    """Usage of a metric with the same dimensions, within a time in which its price does not change."""

    metric: str
    dimensions: Dimensions
    on: date
    """The UTC date since which its price is the same, or a later one."""
    quantity: Decimal
    events_count: int
    values_count: int
    """How many of the events have a quantity."""


class Cost(Record, kw_only=True):
    """What usage costs in US dollars, and what of it has no known cost."""

    amount: Decimal = ZERO
    uncosted_quantity: Decimal = ZERO
    uncosted_events: int = 0


def value_field(metric: str) -> str:
    """The property of the events of a metric that is added up."""
    return "cost" if metric == Metric.COST else "quantity"


def cost_of(used: MeteredUsage, catalogue: PriceSource) -> Cost:
    """What a provider bills for usage. Events without a quantity have no known cost."""
    costing = costing_of(used.metric, used.dimensions, used.on, catalogue)
    return costing.of(used.quantity, used.events_count, used.values_count)


class Costing(Record, kw_only=True):
    """How usage of a metric with the same dimensions is costed, in a time in which its price does not change."""

    rate: Rate | None
    """None: it has no known price."""
    is_in_other_events: bool = False
    """Whether the provider's own figure has it already."""

    def of(self, quantity: Decimal, events_count: int, values_count: int) -> Cost:
        """What it costs; `values_count` of the events have a quantity."""
        if self.is_in_other_events:
            return Cost()
        if self.rate is None:
            return Cost(uncosted_quantity=quantity, uncosted_events=events_count)
        with exact():
            return Cost(amount=self.rate.of(quantity), uncosted_events=events_count - values_count)


def costing_of(metric: str, dimensions: Dimensions, on: date, catalogue: PriceSource) -> Costing:
    """How usage since a UTC date is costed, up to the next change of its price."""
    if metric == Metric.COST:
        return Costing(rate=_AS_SAID)
    if dimensions.get(COST_SOURCE) == FROM_PROVIDER:
        return Costing(rate=None, is_in_other_events=True)
    provider, model = dimensions.get("provider") or "", dimensions.get("model") or ""
    price = catalogue.price(provider, model, measure_of(metric, dimensions), conditions_of(dimensions), on=on)
    return Costing(rate=price.row.rate if price else None)


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
