"""Calls of models as requests of events: those of a call are stored together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from permille.core.instants import microseconds
from permille.core.llm.call import CallEvent, PreparedCall
from permille.events.draft import Draft
from permille.events.log import Request


def requests_of(organization_id: UUID, call: PreparedCall, *, now: datetime) -> list[Request]:
    """The call's own events first, then each that it shares with other calls by itself."""
    groups = [call.events, *([each] for each in call.shared)]
    return [
        Request(
            organization_id=organization_id,
            drafts=_drafts(call, events),
            created_at=microseconds(now),
        )
        for events in groups
        if events
    ]


def _drafts(call: PreparedCall, events: Sequence[CallEvent]) -> list[Draft]:
    return [
        Draft(
            each.transaction_id,
            each.code,
            call.external_subscription_id,
            microseconds(call.sent.at),
            None,
            dict(each.properties),
        )
        for each in events
    ]
