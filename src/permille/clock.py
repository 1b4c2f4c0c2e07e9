"""The only place that reads the time. Everything else takes "now" as a value."""

from __future__ import annotations

from datetime import UTC, datetime


def system_now() -> datetime:
    """The instant of the machine's clock, in UTC."""
    return datetime.now(UTC)
