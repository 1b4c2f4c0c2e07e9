"""An amendment of an event: what was sent stays, and something else counts in its place, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.record import Record


class AmendmentKind(StrEnum):
    """What becomes of the event."""

    VOID = "void"
    REPLACE = "replace"


class Replacement(Record, kw_only=True):
    """What counts instead of the event, as it was sent: at the event's place in the order of arrival."""

    code: str
    at: datetime
    precise_total_amount_cents: Decimal | None
    properties: Mapping[str, Any]


class Amendment(Record, kw_only=True):
    """A change of one event; of several the last one is in force, as if those before it had not been."""

    id: UUID
    transaction_id: str
    event_identity: UUID
    event_transaction_id: str
    external_subscription_id: str | None
    kind: AmendmentKind
    reason: str
    api_key_id: UUID | None
    """The key that it was sent with."""
    created_at: datetime
    replacement: Replacement | None
    superseded_by: UUID | None
    """The next amendment of the same event."""
