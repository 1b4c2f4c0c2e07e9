"""What an aggregation is: how the events of a metric become units, and what everything else has to know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from functools import cached_property
from typing import ClassVar

from permille.core.metering.usage import AdvanceEvent, Partial, Usage, rounded
from permille.core.money import ZERO
from permille.core.period import Period


class Reads(Enum):
    """What an aggregation takes from an event."""

    NOTHING = auto()
    """Every event is worth the same."""
    NUMBER = auto()
    """The number in the metric's property. Events without one do not count."""
    TEXT = auto()
    """The text of the metric's property."""
    RULES = auto()
    """Whatever the metric's own rules look at; they look at the properties of the charge too."""


class Needs(Enum):
    """What has to be read of a period's events, beyond the sums that cells hold, to aggregate them."""

    SUMS = auto()
    NEWEST = auto()
    """The newest value."""
    UNIQUES = auto()
    """The newest operation on each distinct text of the metric's property."""
    EVENTS = auto()
    """Every event, with the properties that the metric's rules look at."""


class Aggregation(ABC):
    """One way to turn events into units. Stateless: there is one object of each kind, in `aggregations.AGGREGATIONS`."""

    name: ClassVar[str]
    """Its name in the API."""
    title: ClassVar[str]
    """What the web admin calls it."""
    reads: ClassVar[Reads]
    needs: ClassVar[Needs] = Needs.SUMS
    can_recur: ClassVar[bool] = True
    """Whether a metric may carry its units over from period to period."""
    can_be_prorated: ClassVar[bool] = True
    can_be_paid_in_advance: ClassVar[bool] = True
    may_fall: ClassVar[bool] = False
    """Whether an event can lower the units. In advance only what rises above the period's highest level is paid."""
    is_by_time: ClassVar[bool] = False
    """Whether values are weighted by how long they last. Such units round without the level that they average."""
    lasts: ClassVar[bool] = False
    """Whether a day without events has the units of the day before, in the same billing period."""

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def counts_every_event(self) -> bool:
        """Whether events without a number count too."""
        return self.reads is not Reads.NUMBER

    @cached_property
    def is_units_alone(self) -> bool:
        """Whether its usage is its units and the events that count, whatever the period."""
        return type(self).usage is Aggregation.usage

    @property
    def adds_one(self) -> bool:
        """Whether each event brings one unit or none."""
        return self.reads in (Reads.NOTHING, Reads.TEXT)

    def events_counted(self, partial: Partial) -> int:
        """How many of the events count."""
        return partial.events_count if self.counts_every_event else partial.values_count

    @abstractmethod
    def units(self, partial: Partial) -> Decimal:
        """The units, before rounding. Call under exact()."""

    def usage(self, partial: Partial, period: Period | None, period_seconds: int | None) -> Usage:
        """Units and events, before rounding."""
        units = self.units(partial)
        return Usage(units, self.events_counted(partial), units)

    def aggregate(
        self,
        partial: Partial,
        *,
        rounding_function: str | None = None,
        rounding_precision: int | None = None,
        period: Period | None = None,
        period_seconds: int | None = None,
    ) -> Usage:
        """The usage in a period, rounded as the metric says.

        A weighted sum needs the period, and the seconds of the whole billing period.
        """
        usage = self.usage(partial, period, period_seconds)
        if rounding_function is None:
            return usage
        units = rounded(usage.units, rounding_function, rounding_precision)
        return Usage(units, usage.events_count, usage.total_aggregated_units if self.is_by_time else units)

    def nothing_owed(self, usage: Usage) -> Usage:
        """Usage whose units are negative, as a fee states it: no units."""
        return usage._replace(
            units=ZERO,
            total_aggregated_units=usage.total_aggregated_units if self.is_by_time else ZERO,
        )

    def paid_in_advance(self, partial: Partial) -> Partial:
        """The part of the usage that a charge paid in advance counts."""
        return partial

    def event_values(self, partial: Partial, *, since: datetime) -> Sequence[Decimal]:
        """What each event of the period adds to the units, in order, for a price that looks at single events."""
        return [value for at, _, value in partial.values if at >= since]

    def running_values(self, partial: Partial) -> Sequence[Decimal]:
        """The values whose running total uses up the free units of a percentage."""
        return ()

    def change(self, event: AdvanceEvent, there: set[str | None]) -> Decimal | None:
        """What an event paid in advance changes the units by; None if it does not count.

        `there` holds the distinct texts that are present, and is updated.
        """
        raise ValueError(f"{self.name} is not paid in advance")
