"""What is asked of usage, and what is answered: windows of time and the sums of series in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from permille.core.metering.usage import Partial, standing_at

BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
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
    is_standing: bool = False
    """Whether it is of what stands at its end, however it came to that."""

    def partial_of(self, sums: Sums) -> Partial:
        """What is kept of some of its events."""
        partial = Partial(
            events_count=sums.events_count,
            values_count=sums.values_count,
            sum=sums.sum,
            max=sums.max,
            precise_amount_cents=sums.precise_amount_cents,
            moment=sums.moment,
        )
        return standing_at(partial, self.to) if self.is_standing else partial


class Sums(NamedTuple):
    """What events add up to: the fields of a Partial, in the order in which statements answer them."""

    events_count: int
    values_count: int
    sum: Decimal
    max: Decimal | None
    precise_amount_cents: Decimal
    moment: Decimal


class ToldEvent(NamedTuple):
    """One event of a usage."""

    at: datetime
    identity: UUID
    has_value: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesUsage:
    """What one series came to in a window. `dimensions` are property texts, as filters and groups see them."""

    series_id: int
    code: str
    dimensions: Mapping[str, str | None]
    partial: Partial
    told: tuple[ToldEvent, ...] | None = None
    """The events, where they were read one by one: then others of the same series may have other dimensions."""
