"""What is asked of usage, and what is answered: windows of time and the sums of series in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from psycopg import Connection

from permille.core.metering.aggregations import MAX, SUM, UNIQUE_COUNT, Aggregation
from permille.core.metering.usage import AdvanceEvent, Partial, carried_over_to
from permille.core.record import Record, replace

Read = TypeVar("Read")
Pair = TypeVar("Pair")

OTHERS = "others"
"""The name of the smallest values of a dimension together."""
RATE_SECONDS = 60
"""How long the rate of events is taken over."""
BEGINNING = datetime.min.replace(tzinfo=UTC)


class Cut(Record, kw_only=True):
    """UTC dates at which usage is read apart: what comes from a date on has it among its dimensions, under a name."""

    name: str
    dates: frozenset[date]
    """All of them."""
    dates_of: Callable[[Mapping[str, str | None]], frozenset[date]]
    """Those that matter to a series with these dimensions: mostly none."""


class UsageQuery(Record, kw_only=True):
    """Whose usage of which codes in [from_, to). `from_` None reaches back to the first event.

    `newest`, `unique_fields` (code -> property), `operation_fields` (likewise), `daily` and `each_value` name the
    codes for which sums are not enough: the newest value, the distinct texts of a property, the changes of which of
    them are there, the sum of each day of `timezone` as one value, every single value.
    """

    organization_id: UUID
    external_subscription_id: str
    codes: tuple[str, ...]
    from_: datetime | None
    to: datetime
    newest: tuple[str, ...] = ()
    unique_fields: tuple[tuple[str, str], ...] = ()
    operation_fields: tuple[tuple[str, str], ...] = ()
    each_value: tuple[str, ...] = ()
    custom: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Code -> the properties that the rules of its custom aggregation look at."""
    daily: tuple[str, ...] = ()
    timezone: str = "UTC"
    is_carried_over: bool = False
    """Whether it asks for the units at its end, whatever they were before."""
    mark: tuple[str, str] | None = None
    """A name and a text that its series have among their dimensions, as if all of its events had them."""
    cut: Cut | None = None
    """Only with a beginning."""

    def apart(self, dates: Collection[date] | None = None) -> list[UsageQuery]:
        """The queries for its stretches between some dates, or all of those at which it is cut, each with its mark."""
        if self.cut is None:
            return [self]
        assert self.from_ is not None, "usage is cut from a beginning on"
        days = sorted(self.cut.dates if dates is None else dates)
        instants = [datetime.combine(day, datetime.min.time(), UTC) for day in days]
        bounds = [self.from_, *(at for at in instants if self.from_ < at < self.to), self.to]
        return [
            replace(self, from_=from_, to=to, mark=(self.cut.name, _utc_date(from_)), cut=None)
            for from_, to in pairwise(bounds)
        ]

    def of(self, external_subscription_id: str) -> UsageQuery:
        """The same question about another subscription of the organization."""
        return replace(self, external_subscription_id=external_subscription_id)

    def of_codes(self, codes: Container[str]) -> UsageQuery:
        """The query for some of its codes."""

        def kept(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if name in codes)

        def kept_pairs(pairs: tuple[tuple[str, Pair], ...]) -> tuple[tuple[str, Pair], ...]:
            return tuple(pair for pair in pairs if pair[0] in codes)

        return replace(
            self,
            codes=kept(self.codes),
            newest=kept(self.newest),
            unique_fields=kept_pairs(self.unique_fields),
            operation_fields=kept_pairs(self.operation_fields),
            each_value=kept(self.each_value),
            custom=kept_pairs(self.custom),
            daily=kept(self.daily),
        )

    def marked(self, found: list[SeriesUsage]) -> list[SeriesUsage]:
        """Its series with its mark."""
        if self.mark is None:
            return found
        name, text = self.mark
        return [each._replace(dimensions={**each.dimensions, name: text}) for each in found]

    def partial_of(self, partial: Partial) -> Partial:
        """What it asks for of some of its events."""
        return carried_over_to(partial, self.to) if self.is_carried_over else partial


def _utc_date(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()


class UsageEvent(NamedTuple):
    """One event of a usage."""

    at: datetime
    identity: UUID
    has_value: bool


class SeriesUsage(NamedTuple):
    """What one series came to in a window. `dimensions` are property texts, as filters and groups see them."""

    series_id: int
    code: str
    dimensions: Mapping[str, str | None]
    partial: Partial
    events: tuple[UsageEvent, ...] | None = None
    """The events, where they were read one by one: then others of the same series may have other dimensions."""


class KindUsage(NamedTuple):
    """What events of a code with the same texts of some properties came to, in each group of windows that has some."""

    code: str
    dimensions: Mapping[str, str | None]
    groups: Sequence[int]
    """Mostly no group twice. The following are in the same order."""
    events_counts: Sequence[int]
    values_counts: Sequence[int]
    sums: Sequence[Decimal]


class AdvanceWindow(Record, kw_only=True):
    """The events of one code of a subscription in [from_, to) that have arrived after `after_seq`, up to `until_seq`.

    `field_name` is that of a unique count; `passed` says how many of the period's events came before `after_seq`.
    """

    organization_id: UUID
    external_subscription_id: str
    code: str
    field_name: str | None
    from_: datetime
    to: datetime
    until_seq: int
    after_seq: int = 0
    passed: int = 0
    names: tuple[str, ...] = ()
    """The properties that the rules of a custom aggregation look at."""


class Shown(StrEnum):
    """What a day's bar shows."""

    UNITS = "units"
    GREATEST = "greatest value"
    DISTINCT = "distinct values"
    EVENTS = "events"


_SHOWN = {SUM: Shown.UNITS, MAX: Shown.GREATEST, UNIQUE_COUNT: Shown.DISTINCT}


def shown_of(aggregation: Aggregation) -> Shown:
    """What is shown of all customers of a day together; for units that are carried over, the changes."""
    return _SHOWN.get(aggregation, Shown.EVENTS)


class UsageReader(Protocol):
    """What events come to: partials of series, for any number of windows at once."""

    def usage_of_many(
        self, conn: Connection[Any], windows: Sequence[UsageQuery], *, with_events: bool = False
    ) -> list[list[SeriesUsage]]:
        """For each window, the usage of its series, exact as of the start of the call.

        `with_events` also names the events of those series of which some events have other dimensions.
        """

    def series_usage(
        self, conn: Connection[Any], windows: Sequence[UsageQuery], *, with_events: bool = False
    ) -> list[SeriesUsage]:
        """The same, of all windows together."""

    def usage_of_kinds(
        self,
        conn: Connection[Any],
        windows: Sequence[UsageQuery],
        groups: Sequence[int],
        names: Sequence[str],
    ) -> list[KindUsage]:
        """The sums of windows, added up by the texts of these properties and by the group of each window; as exact.

        Only of windows for which sums are enough.
        """

    def texts_in_use(
        self, conn: Connection[Any], organization_id: UUID, codes: Collection[str], names: Sequence[str]
    ) -> set[tuple[str | None, ...]]:
        """The external ids of subscriptions with events of these codes, each with the texts of these properties."""

    def events_of(self, conn: Connection[Any], windows: Sequence[AdvanceWindow]) -> list[list[AdvanceEvent]]:
        """The events of each window in the order of arrival."""

    def sums(self, conn: Connection[Any], series_ids: Collection[int]) -> Mapping[int, tuple[Decimal, int]]:
        """Series -> the sum of its values and the number of its events of all times, as far as they are rolled up."""

    def units_by_day(
        self,
        conn: Connection[Any],
        organization_id: UUID,
        *,
        code: str,
        key: str | None,
        shown: Shown,
        since: datetime,
        until: datetime,
    ) -> dict[date, dict[str, Decimal]]:
        """UTC day -> value of the dimension -> what is shown, as far as it is rolled up; the smallest together as OTHERS."""

    def size_of_days(
        self,
        conn: Connection[Any],
        organization_id: UUID,
        *,
        code: str,
        shown: Shown,
        since: datetime,
        until: datetime,
        most: int,
    ) -> int:
        """How many rows `units_by_day` adds up, of the whole months and at most so many."""

    def events_per_second(self, conn: Connection[Any], organization_id: UUID, *, since: datetime) -> Decimal:
        """Over the last RATE_SECONDS, of which `since` is the beginning."""

    def under_one_version(
        self, conn: Connection[Any], organization_ids: Collection[UUID], read: Callable[[], Read]
    ) -> Read:
        """What several calls read, all of them before or all of them after a change of how the events are kept."""

    def under_one_metering(
        self, conn: Connection[Any], organization_ids: Collection[UUID], read: Callable[[], Read]
    ) -> Read:
        """Prices and usage that were read before, or both after, a change of how the events are kept."""
