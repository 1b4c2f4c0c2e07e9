"""Calls of models as requests of events: those of a call are stored together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from permille.core.instants import microseconds
from permille.core.llm.call import CallEvent, PreparedCall, Problem
from permille.events.draft import Draft
from permille.events.log import Request, UnacceptableError


def requests_of(organization_id: UUID, call: PreparedCall, *, now: datetime) -> list[Request]:
    """The call's own events first, then each that it shares with other calls by itself."""
    groups = [call.events, *([each] for each in call.shared)]
    created_at = microseconds(now)
    return [
        Request(
            organization_id=organization_id,
            drafts=_drafts(call, events),
            created_at=created_at,
            counts_once=True,
        )
        for events in groups
        if events
    ]


def outcome_of(call: PreparedCall, requests: Sequence[Request]) -> PreparedCall:
    """The call once it is known how its requests went."""
    if any(each.is_refused or isinstance(each.failure, UnacceptableError) for each in requests):
        return replace(call, problem=UNACCEPTABLE, events=(), shared=())
    if call.events and requests[0].duplicates:
        return replace(call, is_repeated=True, events=(), shared=())
    return call


UNACCEPTABLE = Problem(
    code="cannot_be_stored", message="The database refuses a value in its events: shorten its properties."
)


def _drafts(call: PreparedCall, events: Sequence[CallEvent]) -> list[Draft]:
    payer, at = call.external_subscription_id, microseconds(call.sent.at)
    return [Draft(each.transaction_id, each.code, payer, at, None, dict(each.properties)) for each in events]
