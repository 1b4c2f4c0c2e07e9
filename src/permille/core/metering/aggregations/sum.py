"""The sum of a property."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from permille.core.metering.aggregations.base import Aggregation, Reads
from permille.core.metering.usage import AdvanceEvent, Partial


class Sum(Aggregation):
    """The values added up."""

    name = "sum_agg"
    title = "Sum of a property"
    reads = Reads.NUMBER
    may_fall = True

    def units(self, partial: Partial) -> Decimal:
        """Their sum."""
        return partial.sum

    def running_values(self, partial: Partial) -> Sequence[Decimal]:
        """All values; those of a recurring sum from the first event on."""
        return [value for _, _, value in partial.values]

    def change(self, event: AdvanceEvent, there: set[str | None]) -> Decimal | None:
        """The event's value."""
        return event.value


SUM = Sum()
