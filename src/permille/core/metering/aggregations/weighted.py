"""The average level over a billing period."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from permille.core.metering.aggregations.base import Aggregation, Reads
from permille.core.metering.usage import Partial, Usage, epoch_seconds
from permille.core.money import exact
from permille.core.period import INSTANT, Period

_DIGITS = Decimal(1).scaleb(-16)


class WeightedSum(Aggregation):
    """Each value changes the level from its instant on; the units are the average of the level."""

    name = "weighted_sum_agg"
    title = "Sum weighted by time"
    reads = Reads.NUMBER
    can_be_prorated = False
    can_be_paid_in_advance = False
    is_by_time = True
    lasts = True

    def units(self, partial: Partial) -> Decimal:
        """The level at the end, before it is weighted."""
        return partial.sum

    def usage(self, partial: Partial, period: Period | None, period_seconds: int | None) -> Usage:
        """The average level over a billing period of `period_seconds`, of which `period` is the part subscribed.

        A value lasts to the period's end, so it counts for its value times the seconds that are left, and the sum of
        that needs no order. What was before the period is carried over to its start (usage.carried_over_to). The last
        instant counts as the whole second that it is in or at: one that ended at noon lasted until noon. The units
        have 16 decimals; total_aggregated_units is the level at the end.
        """
        if period is None or period_seconds is None:
            raise ValueError("a weighted sum needs its period")
        with exact():
            end = epoch_seconds(period.to - INSTANT).to_integral_value(ROUND_CEILING)
            weighted = partial.sum * end - partial.moment
            units = (weighted / period_seconds).quantize(_DIGITS)
        return Usage(units, partial.values_count - partial.carried_over_count, partial.sum)


WEIGHTED_SUM = WeightedSum()
