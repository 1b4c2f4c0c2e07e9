"""Periods [from, to) and the boundaries that an anchor cuts into time.

Dates are the customer's: every boundary is a midnight in the customer's timezone, kept as a UTC instant, so
daylight saving changes the hours of a day but never the days of a period. Each boundary is computed from
the anchor and not from its neighbour: the 31st is the 28th in February and the 31st again in March.
Source: semantics-billing.md sections 3.8 to 3.12. Lago's inclusive ends are ours minus a microsecond.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from permille.core.record import Record

INSTANT = timedelta(microseconds=1)
_DAY = timedelta(days=1)
# An invoice run asks the same few things of a hundred thousand subscriptions.
_REMEMBERED = 4096


class Interval(StrEnum):
    """How often a plan is billed."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    SEMIANNUAL = "semiannual"
    YEARLY = "yearly"


class BillingTime(StrEnum):
    """Whether periods follow the calendar or the subscription's own date."""

    CALENDAR = "calendar"
    ANNIVERSARY = "anniversary"


_MONTHS = {Interval.MONTHLY: 1, Interval.QUARTERLY: 3, Interval.SEMIANNUAL: 6, Interval.YEARLY: 12}
# A Monday which is the first day of a year: weeks, months, quarters, half-years and years all start on it.
_CALENDAR_ANCHOR = date(2001, 1, 1)


class Period(Record):
    """The instants from `from_` up to and without `to`; empty when both are the same."""

    from_: datetime
    to: datetime

    def __post_init__(self) -> None:
        if self.from_ > self.to:
            raise ValueError(f"a period cannot end at {self.to} before it starts at {self.from_}")

    def __contains__(self, at: datetime) -> bool:
        return self.from_ <= at < self.to


def seconds_of(period: Period) -> int:
    """How many whole seconds a period has."""
    return (period.to - period.from_) // timedelta(seconds=1)


@lru_cache(maxsize=_REMEMBERED)
def local_date(at: datetime, timezone: str) -> date:
    """The calendar date of an instant in a timezone."""
    return at.astimezone(ZoneInfo(timezone)).date()


@lru_cache(maxsize=_REMEMBERED)
def midnight(day: date, timezone: str) -> datetime:
    """The first instant of a date in a timezone, also where clocks jump at midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def start_of_day(at: datetime, timezone: str) -> datetime:
    """The midnight that opens the local date of an instant."""
    return midnight(local_date(at, timezone), timezone)


def charges_interval(interval: Interval, bill_charges_monthly: bool | None) -> Interval:
    """The interval of usage: monthly for a half-yearly or yearly plan that says so, else the plan's."""
    longer = interval in (Interval.SEMIANNUAL, Interval.YEARLY)
    return Interval.MONTHLY if longer and bill_charges_monthly else interval


def period_containing(
    at: datetime, *, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> Period:
    """The whole billing period that an instant lies in, however much of it was subscribed.

    `anchor` is subscription_at. The periods of one anchor and timezone tile the line.
    """
    origin = local_date(anchor, timezone) if billing_time is BillingTime.ANNIVERSARY else _CALENDAR_ANCHOR
    return _period(local_date(at, timezone), interval, origin, timezone)


def next_boundary(
    after: datetime, *, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> datetime:
    """The first start of a period after an instant and not at it: when a subscription becomes due."""
    return period_containing(
        after, interval=interval, billing_time=billing_time, anchor=anchor, timezone=timezone
    ).to


def previous_period(
    at: datetime, *, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> Period:
    """The period which ends where the one that contains `at` starts: what a due instant bills in arrears."""
    current = period_containing(
        at, interval=interval, billing_time=billing_time, anchor=anchor, timezone=timezone
    )
    return period_containing(
        current.from_ - INSTANT,
        interval=interval,
        billing_time=billing_time,
        anchor=anchor,
        timezone=timezone,
    )


@lru_cache(maxsize=_REMEMBERED)
def _period(day: date, interval: Interval, origin: date, timezone: str) -> Period:
    first, following = _dates(day, interval, origin)
    return Period(midnight(first, timezone), midnight(following, timezone))


def _dates(day: date, interval: Interval, origin: date) -> tuple[date, date]:
    """First day of the period with that day, and first day of the following one."""
    if interval is Interval.WEEKLY:
        first = day - timedelta(days=(day - origin).days % 7)
        return first, first + timedelta(days=7)
    months = _MONTHS[interval]
    nth = (_month_number(day) - _month_number(origin)) // months
    if day < _anniversary(origin, nth * months):
        nth -= 1
    return _anniversary(origin, nth * months), _anniversary(origin, (nth + 1) * months)


def _month_number(day: date) -> int:
    return day.year * 12 + day.month - 1


def _anniversary(origin: date, months: int) -> date:
    """The origin's day so many months later, the last day of a shorter month."""
    year, month0 = divmod(_month_number(origin) + months, 12)
    return date(year, month0 + 1, min(origin.day, monthrange(year, month0 + 1)[1]))


def day_diff(from_: datetime, to: datetime, timezone: str) -> int:
    """Days begun between two instants by the local clock; `to` is exclusive.

    It counts to the last instant before `to`, which at a midnight counts the day that begins, as a termination at
    midnight does. At any other time whole days are as many as there are, also where a trial ended at that very time.
    """
    if to <= from_:
        return 0
    zone = ZoneInfo(timezone)
    # The clock is read before `to`: a change of offset at that very midnight belongs to the next day.
    end = (to - INSTANT).astimezone(zone).replace(tzinfo=None)
    if end.time() == datetime.min.time():
        end += INSTANT
    begin = from_.astimezone(zone).replace(tzinfo=None)
    return max(1, -((begin - end) // _DAY))


@lru_cache(maxsize=_REMEMBERED)
def days_in(period: Period, timezone: str) -> int:
    """The number of local days of a period."""
    return day_diff(period.from_, period.to, timezone)
