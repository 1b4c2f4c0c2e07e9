"""The organization: whose data it is, and what time it is for it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from permille.core.record import Record


class Organization(Record, kw_only=True):
    """A tenant. A test-mode organization has its own clock, `test_now`; a live one has none."""

    id: UUID
    name: str
    test_mode: bool
    test_now: datetime | None
    hmac_key: str
    created_at: datetime
    requires_second_factor: bool = False
    """Whether its users in the web admin must have one."""
    auto_approve_prices: bool = False
    """Whether versions of the price catalogue without outliers are approved as they come in."""

    def now(self, system_now: datetime) -> datetime:
        """The organization's clock: its own in test mode, else the system's."""
        return self.test_now or system_now
