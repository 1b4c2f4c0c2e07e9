"""The days from and to in an address, both inclusive and in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time

from permille.core.errors import Invalid
from permille.core.instants import end_of_day, parse_day


def first_and_last(query: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    """The first and the last instant; None where none is asked for. Raises Invalid for what is no day."""
    first, last = _day(query, "from"), _day(query, "to")
    return first, end_of_day(last) if last else None


def _day(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name, "").strip()
    day = parse_day(text)
    if text and day is None:
        raise Invalid({name: ["invalid_date"]})
    return datetime.combine(day, time(), UTC) if day else None
