"""The billable metric: what is measured, and along which dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from permille.core.metering.aggregations import Aggregation
from permille.core.metering.event import property_text
from permille.core.record import Record


class BillableMetric(Record, kw_only=True):
    """Event code + aggregation + property. `filters` are its dimensions: key -> allowed values, both in the order in which they were given."""

    id: UUID
    organization_id: UUID
    name: str
    code: str
    description: str | None
    aggregation: Aggregation
    field_name: str | None
    recurring: bool
    rounding_function: str | None
    rounding_precision: int | None
    weighted_interval: str | None
    expression: str | None
    custom_aggregator: Mapping[str, str] | None = None
    """The rules of a custom aggregation: `total_units`, and `amount` where there is one (core.metering.rule)."""
    filters: Mapping[str, tuple[str, ...]]
    created_at: datetime
    updated_at: datetime

    @property
    def aggregation_type(self) -> str:
        """The aggregation's name in the API."""
        return self.aggregation.name

    def dimension_texts(self, properties: Mapping[str, Any]) -> dict[str, str | None]:
        """An event's values of the dimensions, as texts; None where it has none."""
        return {key: property_text(properties.get(key)) for key in self.filters}
