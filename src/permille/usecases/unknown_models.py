"""Calls that were counted under an unknown name are counted under the model that an alias says, by amending their events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotFound
from permille.core.llm.call import PreparedCall
from permille.core.llm.model_alias import ModelAlias, Outcome, under_model
from permille.core.llm.model_name import alias_name
from permille.core.metering.amendment import Amendment, AmendmentKind
from permille.core.record import Record
from permille.events.engine import amendments, event_log
from permille.events.log import StoredEvent
from permille.ids import new_ids
from permille.store import amended_fees, model_aliases, unknown_models as store
from permille.store.amended_fees import EventPlace
from permille.store.unknown_models import UnknownModel, UnknownModelCall
from permille.usecases.amendments import AmendmentRequest, UnableToAmendError, amend

CALLS_AT_ONCE = 500
_OWN = "alias:"
"""How the transaction ids of these amendments begin."""


def note(conn: Connection[Any], organization_id: UUID, calls: Sequence[PreparedCall]) -> None:
    """Remember which of these calls are counted under a name that says nothing, and by which events."""
    found = [
        UnknownModelCall(
            organization_id=organization_id,
            name=name,
            identity=call.identity,
            transaction_ids=transaction_ids,
            at=call.sent.at,
        )
        for call in calls
        if call.identity
        for name, transaction_ids in call.unknown_models.items()
    ]
    if found:
        store.add(conn, found)


class MovedCalls(Record, kw_only=True):
    """What became of the calls that were looked at, and what still waits."""

    rest: UnknownModel
    outcomes: Mapping[Outcome, int]


def count_under_model(
    conn: Connection[Any], organization_id: UUID, name: str, *, api_key_id: UUID | None, now: datetime
) -> MovedCalls:
    """Count up to CALLS_AT_ONCE calls under the model of their alias. What was billed, or amended by hand, stays.

    Raises NotFound where nothing waits, Invalid without an alias.
    """
    found = store.by_name(conn, organization_id, name)
    if found is None:
        raise NotFound("unknown_model")
    alias = model_aliases.by_name(conn, organization_id, name)
    if alias is None:
        raise Invalid({"name": ["alias_is_missing"]})
    amendments.begin(conn, organization_id)
    calls = store.waiting(conn, alias, limit=CALLS_AT_ONCE)
    events = _events(conn, alias, calls)
    stays = _staying(conn, organization_id, [event for each in events.values() for event in each])
    outcomes = {
        call.identity: next(
            (stays[event.identity] for event in events[call.identity] if event.identity in stays),
            Outcome.MOVED,
        )
        for call in calls
    }
    moved = {
        event.identity: event
        for identity, outcome in outcomes.items()
        if outcome is Outcome.MOVED
        for event in events[identity]
    }
    _amend(conn, alias, list(moved.values()), api_key_id=api_key_id, now=now)
    store.decide(conn, alias, outcomes)
    rest = store.by_name(conn, organization_id, name)
    nothing = UnknownModel(name=name, model=alias.model, calls_count=0, first_used_at=None, last_used_at=None)
    return MovedCalls(rest=rest or nothing, outcomes=Counter(outcomes.values()))


def _events(
    conn: Connection[Any], alias: ModelAlias, calls: Sequence[UnknownModelCall]
) -> dict[str, list[StoredEvent]]:
    """Identity of each call -> its events as they are stored, which have the unknown name."""
    ids = [transaction_id for call in calls for transaction_id in call.transaction_ids]
    sent = amendments.sent_events(conn, alias.organization_id, ids)
    places = dict(zip(ids, sent, strict=True))
    stored = event_log.by_identities(conn, [each.identity for found in sent for each in found])
    return {
        call.identity: [
            event
            for transaction_id in call.transaction_ids
            for place in places[transaction_id]
            if _has_name(event := stored[place.identity], alias.name)
        ]
        for call in calls
    }


def _has_name(event: StoredEvent, name: str) -> bool:
    said = event.properties
    model = said.get("model")
    is_unknown = isinstance(model, str) and model == said.get("model_raw")
    return is_unknown and alias_name(str(said.get("provider")), str(model)) == name


def _staying(
    conn: Connection[Any], organization_id: UUID, events: Sequence[StoredEvent]
) -> dict[UUID, Outcome]:
    """Events that stay as they are, by identity: somebody has amended them, or a final fee may have them."""
    histories = amendments.of_events(conn, [event.identity for event in events])
    by_hand = {identity for identity, history in histories.items() if not _is_own(history[-1])}
    places = [
        EventPlace(event.transaction_id, event.external_subscription_id, event.code, event.at)
        for event in events
    ]
    fees = amended_fees.of_events(conn, organization_id, places)
    billed = {event.identity for event, found in zip(events, fees, strict=True) if found}
    return dict.fromkeys(billed, Outcome.BILLED) | dict.fromkeys(by_hand, Outcome.AMENDED)


def _is_own(amendment: Amendment) -> bool:
    return amendment.transaction_id.startswith(_OWN)


def _amend(
    conn: Connection[Any],
    alias: ModelAlias,
    events: Sequence[StoredEvent],
    *,
    api_key_id: UUID | None,
    now: datetime,
) -> None:
    if not events:
        return
    try:
        amend(
            conn, alias.organization_id, list(_requests(alias, events, now)), api_key_id=api_key_id, now=now
        )
    except UnableToAmendError as refused:
        raise Invalid({str(index): errors for index, errors in refused.errors.items()}) from refused


def _requests(alias: ModelAlias, events: Sequence[StoredEvent], now: datetime) -> Iterator[AmendmentRequest]:
    for event, own_id in zip(events, new_ids(now, len(events)), strict=True):
        yield AmendmentRequest(
            transaction_id=f"{_OWN}{own_id}",
            event_transaction_id=event.transaction_id,
            external_subscription_id=event.external_subscription_id,
            kind=AmendmentKind.REPLACE,
            reason=f"{alias.name} is {alias.model}",
            changes={"properties": under_model(event.properties, alias)},
        )
