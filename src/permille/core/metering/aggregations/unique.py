"""The number of different values of a property."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from permille.core.metering.aggregations.base import Aggregation, Needs, Reads
from permille.core.metering.usage import EMPTY, AdvanceEvent, Partial, Usage
from permille.core.money import ZERO
from permille.core.period import Period


class UniqueCount(Aggregation):
    """The distinct values that are present. Events add and remove them; a missing property is a value too."""

    name = "unique_count_agg"
    title = "Number of different values of a property"
    reads = Reads.TEXT
    needs = Needs.UNIQUES
    may_fall = True

    def units(self, partial: Partial) -> Decimal:
        """The number of values whose newest operation added them."""
        return Decimal(sum(1 for _, _, is_there in partial.uniques.values() if is_there))

    def usage(self, partial: Partial, period: Period | None, period_seconds: int | None) -> Usage:
        """Each distinct value counts as one event."""
        units = self.units(partial)
        return Usage(units, int(units), units)

    def paid_in_advance(self, partial: Partial) -> Partial:
        """Events without a value are not paid, and not counted."""
        uniques: dict[str | None, tuple[datetime, int, bool]] = {
            text: last for text, last in partial.uniques.items() if text
        }
        operations = tuple(each for each in partial.operations if each[2])
        return partial._replace(uniques=uniques, operations=operations) if uniques else EMPTY

    def change(self, event: AdvanceEvent, there: set[str | None]) -> Decimal | None:
        """One up or down where a value comes or goes; 0 where it was there, or was not, before."""
        if not event.text or event.is_add is None:
            return None
        if event.is_add == (event.text in there):
            return ZERO
        if event.is_add:
            there.add(event.text)
            return Decimal(1)
        there.discard(event.text)
        return Decimal(-1)


UNIQUE_COUNT = UniqueCount()
