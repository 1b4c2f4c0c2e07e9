"""How values look on Lago's wire: instants to the second in UTC, decimals as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)


def instant(at: datetime | None) -> str | None:
    """2024-03-05T00:00:00Z; fractions of a second are cut off."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z") if at else None


def instant_milliseconds(at: datetime | None) -> str | None:
    """2024-03-05T00:00:00.123Z, cut off, not rounded."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def last_instant(end: datetime | None) -> str | None:
    """An exclusive end as Lago shows it: the last second of the period."""
    return instant(end - MICROSECOND) if end else None
