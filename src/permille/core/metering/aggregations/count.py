"""The number of events."""

from __future__ import annotations

from decimal import Decimal

from permille.core.metering.aggregations.base import Aggregation, Reads
from permille.core.metering.usage import AdvanceEvent, Partial


class Count(Aggregation):
    """Every event is one unit."""

    name = "count_agg"
    title = "Number of events"
    reads = Reads.NOTHING
    can_recur = False

    def units(self, partial: Partial) -> Decimal:
        """All events."""
        return Decimal(partial.events_count)

    def change(self, event: AdvanceEvent, there: set[str | None]) -> Decimal | None:
        """One."""
        return Decimal(1)


COUNT = Count()
