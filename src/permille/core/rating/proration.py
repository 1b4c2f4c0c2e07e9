"""Proration of recurring units: each counts for the share of the billing period's days on which it was present.

Days are calendar days in the customer's timezone; the day of a change belongs to the unit, and so does the day
on which it goes. Source: semantics-metering.md sections 2.5 and 5.11.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from itertools import groupby

from permille.core.metering.usage import Instance, Operation
from permille.core.money import ZERO, exact
from permille.core.period import INSTANT, Period, local_date, seconds_of
from permille.core.record import Record

_FIVE_DECIMALS = Decimal("0.00001")


class Proration(Record):
    """What days are counted by: the timezone, and the days of the whole billing period."""

    timezone: str
    days_in_period: int
    spares_last_day: bool = False
    """Whether an upgrade ended the subscription: the dearer plan pays for that day."""

    def days(self, period: Period) -> int:
        """The days of a period, the first and the last included."""
        return self.days_to_end(period.from_, period)

    def days_to_end(self, since: datetime, period: Period) -> int:
        """The days from an instant to the period's end, on which units that stay are present."""
        return self.days_between(since, period.to - INSTANT) - self.spares_last_day

    def days_between(self, first: datetime, last: datetime) -> int:
        """The days between two instants, both included.

        Never more than the whole period has: where a customer's move to another timezone makes it longer by
        some hours, these may reach into one more day.
        """
        days = (local_date(last, self.timezone) - local_date(first, self.timezone)).days + 1
        return min(days, self.days_in_period)

    def share(self, amount_cents: int, period: Period) -> Decimal:
        """The part of an amount for a whole period that the days of this one make."""
        with exact():
            days = self.days(period)
            return (
                Decimal(amount_cents)
                if days == self.days_in_period
                else Decimal(amount_cents * days) / self.days_in_period
            )


def proration_by(whole: Period, timezone: str, *, spares_last_day: bool = False) -> Proration:
    """By the days of a whole billing period."""
    days = (local_date(whole.to - INSTANT, timezone) - local_date(whole.from_, timezone)).days + 1
    return Proration(timezone, days, spares_last_day)


def is_cut_by_upgrade(period: Period, *, upgraded: bool, terminated_at: datetime | None) -> bool:
    """Whether a dearer plan took over in a period: not in those that were over by then, however late they are billed."""
    return upgraded and terminated_at is not None and period.to > terminated_at


class RatedPeriod(Record):
    """A period that fees are for, with the seconds and the days of the whole billing period, of which it may be a part."""

    period: Period
    whole_seconds: int
    proration: Proration


def rated_period(
    period: Period,
    whole: Period,
    timezone: str,
    *,
    upgraded: bool = False,
    terminated_at: datetime | None = None,
) -> RatedPeriod:
    """A period in its whole billing period, of a subscription that may have ended, or been upgraded, in it."""
    spares_last_day = is_cut_by_upgrade(period, upgraded=upgraded, terminated_at=terminated_at)
    proration = proration_by(whole, timezone, spares_last_day=spares_last_day)
    return RatedPeriod(period, seconds_of(whole), proration)


class Prorated(Record):
    """Units by the days on which they were present, and the changes in the order of time."""

    units: Decimal
    changes: tuple[tuple[Decimal, Decimal], ...]
    """Each whole, and times the days for which it counts: not divided, so that their sum is divided once."""


def _prorated(changes: Sequence[tuple[Decimal, int]], by: Proration) -> Prorated:
    """Changes with the days for which each counts, divided once, as thirds of a day do not add up to days."""
    total = sum((change * days for change, days in changes), ZERO) / by.days_in_period
    return Prorated(
        total.quantize(_FIVE_DECIMALS, ROUND_CEILING),
        tuple((change, change * days) for change, days in changes),
    )


def prorate_sum(base: Decimal, values: Iterable[Instance], *, period: Period, by: Proration) -> Prorated:
    """`base` was carried over into the period; each value counts from its day to the period's last.

    A day that an upgrade spares is spared for the base alone, as in Lago.
    """
    last = period.to - INSTANT
    with exact():
        changes = [(base, by.days(period))] if base else []
        changes += [(value, by.days_between(at, last)) for at, _, value in sorted(values)]
        return _prorated(changes, by)


def prorate_uniques(operations: Iterable[Operation], *, period: Period, by: Proration) -> Prorated:
    """Each value counts for the days on which it was there; what went before the period does not count."""
    changes: list[tuple[datetime, int, Decimal, int]] = []
    of_value = sorted(operations, key=lambda each: (each[2] is not None, each[2] or "", each[0], each[1]))
    with exact():
        for _, own in groupby(of_value, key=lambda each: each[2]):
            for added, removed in _stays(list(own), by):
                days = _days(added[0], removed[0] if removed else None, period, by)
                if days:
                    changes.append((*added, Decimal(1), days))
                    if removed and removed[0] < period.to:
                        changes.append((*removed, Decimal(-1), 0))
        return _prorated([(change, days) for _, _, change, days in sorted(changes)], by)


Moment = tuple[datetime, int]


def _stays(operations: Sequence[Operation], by: Proration) -> list[tuple[Moment, Moment | None]]:
    """From when to when a value was there. Going and coming back on one day is staying."""
    stays: list[tuple[Moment, Moment | None]] = []
    for at, order, _, is_add in operations:
        is_there = bool(stays) and stays[-1][1] is None
        if is_add and not is_there:
            left = stays[-1][1] if stays else None
            if left is not None and local_date(left[0], by.timezone) == local_date(at, by.timezone):
                stays[-1] = (stays[-1][0], None)
            else:
                stays.append(((at, order), None))
        elif not is_add and is_there:
            stays[-1] = (stays[-1][0], (at, order))
    return stays


def _days(added: datetime, removed: datetime | None, period: Period, by: Proration) -> int:
    """How many days of the period it was there."""
    if added >= period.to or (removed is not None and removed < period.from_):
        return 0
    since = max(added, period.from_)
    if removed is None or removed >= period.to:
        return by.days_to_end(since, period)
    return by.days_between(since, removed)
