"""Units by the metric's own rules (core.metering.custom_aggregation)."""

from __future__ import annotations

from decimal import Decimal

from permille.core.metering.aggregations.base import Aggregation, Needs, Reads
from permille.core.metering.usage import Partial, Usage
from permille.core.period import Period


class Custom(Aggregation):
    """The rules run over the events first: the units are the sum of the changes that they made."""

    name = "custom_agg"
    title = "By rules of your own"
    reads = Reads.RULES
    needs = Needs.EVENTS
    can_be_prorated = False
    may_fall = True
    lasts = True

    def units(self, partial: Partial) -> Decimal:
        """What the rules made of the last event."""
        return partial.sum

    def usage(self, partial: Partial, period: Period | None, period_seconds: int | None) -> Usage:
        """Events for which the rules have no value do not count."""
        return Usage(partial.sum, partial.values_count, partial.sum)


CUSTOM = Custom()
