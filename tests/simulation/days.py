"""Days and periods of a customer, by the rules of semantics-billing.md 3.8 to 3.11."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = {"monthly": 1, "quarterly": 3, "semiannual": 6, "yearly": 12}
A_MONDAY = date(2001, 1, 1)


def day_of(at: datetime, zone: str) -> date:
    return at.astimezone(ZoneInfo(zone)).date()


def begun(start: datetime, end: datetime, zone: str) -> int:
    """The days that have begun between two instants, by the clock on the wall: one that is set is not counted."""
    passed = [each.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for each in (start, end)]
    return -((passed[0] - passed[1]) // timedelta(days=1))


def last_begun(at: datetime, zone: str) -> datetime:
    """The instant up to which an end at `at` counts days: at a midnight, the day that begins counts."""
    return at + timedelta(microseconds=1) if at == opens(day_of(at, zone), zone) else at


def opens(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def period(day: date, interval: str, anchor: date) -> tuple[date, date]:
    """The first day of the period that a day is in, and the first day after it. By the calendar: an anchor of A_MONDAY."""
    if interval == "weekly":
        first = day - timedelta(days=(day - anchor).days % 7)
        return first, first + timedelta(days=7)
    step = MONTHS[interval]
    n = (day.year - anchor.year - 1) * 12 // step - 1
    while later(anchor, (n + 1) * step) <= day:
        n += 1
    return later(anchor, n * step), later(anchor, (n + 1) * step)


def price_date(now: datetime, when: str) -> datetime | None:
    """From when on prices are valid: for all periods, for those after now, or from a day on in so many days."""
    if when == "now":
        return None
    if when == "next_period":
        return now + timedelta(microseconds=1)
    day = now.date() + timedelta(days=int(when))
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
