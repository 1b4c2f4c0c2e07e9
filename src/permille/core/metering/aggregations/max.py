"""The largest value of a property."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from permille.core.metering.aggregations.base import Aggregation, Reads
from permille.core.metering.usage import Partial
from permille.core.money import ZERO


class Max(Aggregation):
    """The largest value, which may be negative."""

    name = "max_agg"
    title = "Largest value of a property"
    reads = Reads.NUMBER
    can_recur = False
    can_be_paid_in_advance = False

    def units(self, partial: Partial) -> Decimal:
        """The largest value, 0 without any."""
        return partial.max or ZERO

    def event_values(self, partial: Partial, *, since: datetime) -> Sequence[Decimal]:
        """The first event with the largest value brings all units, the others none."""
        first = next((i for i, (_, _, value) in enumerate(partial.values) if value == partial.max), 0)
        return [value if i == first else ZERO for i, (_, _, value) in enumerate(partial.values)]


MAX = Max()
