"""Reading instants that people and programs send; core/bounds.py has the bounds that all of them lie in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from permille.core.bounds import EARLIEST, LATEST

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_instant(value: Any) -> datetime | None:
    """An ISO 8601 date or date-time as an aware UTC instant, None when it is none.

    A date is its midnight, and an instant without an offset is in UTC.
    """
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_day(value: Any) -> date | None:
    """An ISO 8601 date alone; None when it is none, an instant, or out of bounds: each day has one before and after it."""
    if not isinstance(value, str):
        return None
    try:
        found = date.fromisoformat(value.strip())
    except ValueError:
        return None
    return found if EARLIEST.date() <= found < LATEST.date() else None


def microseconds(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - EPOCH) // _MICROSECOND


def end_of_day(begins: datetime) -> datetime:
    """The last instant of the day of 24 hours that begins then."""
    return begins + timedelta(days=1) - timedelta(microseconds=1)
