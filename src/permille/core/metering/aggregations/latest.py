"""The newest value of a property."""

from __future__ import annotations

from decimal import Decimal

from permille.core.metering.aggregations.base import Aggregation, Needs, Reads
from permille.core.metering.usage import Partial
from permille.core.money import ZERO


class Latest(Aggregation):
    """The value of the newest event; 0 if it is negative."""

    name = "latest_agg"
    title = "Latest value of a property"
    reads = Reads.NUMBER
    needs = Needs.NEWEST
    can_recur = False
    can_be_paid_in_advance = False
    lasts = True

    def units(self, partial: Partial) -> Decimal:
        """The newest value."""
        return max(partial.last[2], ZERO) if partial.last else ZERO


LATEST = Latest()
