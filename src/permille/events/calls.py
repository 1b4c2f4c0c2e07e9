"""Calls of models as requests of events: those of a call are stored together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from permille.core.instants import microseconds
from permille.core.llm.call import CallEvent, PreparedCall, Problem
from permille.core.record import replace
from permille.events.draft import Draft
from permille.events.log import Request, UnacceptableError


def requests_of(organization_id: UUID, call: PreparedCall, *, now: datetime) -> list[Request]:
    """The call's own events first, then each that it shares with other calls by itself."""
    own = [own_request(organization_id, [call], now=now)] if call.events else []
    return [*own, *shared_requests(organization_id, call, now=now)]


def own_request(organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime) -> Request:
    """The events of calls as one request: all of them go in, or none does."""
    return Request(
        organization_id=organization_id,
        drafts=[draft for call in calls for draft in _drafts(call, call.events)],
        created_at=microseconds(now),
        counts_once=[name for call in calls for name in call.names],
    )


def shared_requests(organization_id: UUID, call: PreparedCall, *, now: datetime) -> list[Request]:
    """Each event that a call shares with others."""
    return [
        Request(
            organization_id=organization_id,
            drafts=_drafts(call, [event]),
            created_at=microseconds(now),
            counts_once=[event.transaction_id],
        )
        for event in call.shared
    ]


def outcome_of(call: PreparedCall, requests: Sequence[Request]) -> PreparedCall:
    """The call once it is known how its requests went."""
    if any(is_unacceptable(each) for each in requests):
        return replace(call, problem=UNACCEPTABLE, events=(), shared=())
    if call.events and requests[0].duplicates:
        return replace(call, is_repeated=True, events=(), shared=())
    return call


def is_unacceptable(request: Request) -> bool:
    """Whether nothing of it is stored for what is in its events."""
    return request.is_refused or isinstance(request.failure, UnacceptableError)


UNACCEPTABLE = Problem(
    code="cannot_be_stored", message="The database refuses a value in its events: shorten its properties."
)


def _drafts(call: PreparedCall, events: Sequence[CallEvent]) -> list[Draft]:
    payer, at = call.external_subscription_id, microseconds(call.sent.at)
    return [Draft(each.transaction_id, each.code, payer, at, None, each.properties) for each in events]
