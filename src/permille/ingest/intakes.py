"""Events that are usage of language models, by their code: taken out of a request, and stored as calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from permille.core.errors import Invalid
from permille.core.instants import EPOCH
from permille.core.llm.call import PreparedCall, SentCall
from permille.core.llm.intake import Intakes, usage_in
from permille.core.record import Record
from permille.events.draft import Draft
from permille.events.identity import event_identities
from permille.events.log import Request
from permille.ingest.decoders.llm_usage import call_of, problems


class SortedEvents(Record, kw_only=True):
    """The events of a request: those that are calls, by their index, and the indices of the others."""

    calls: Mapping[int, SentCall]
    others: Sequence[int]


def sort_events(drafts: Sequence[Draft], intakes: Intakes, *, is_batch: bool) -> SortedEvents:
    """Which events are calls. Raises Invalid for what can be none, by index in a batch."""
    calls: dict[int, SentCall] = {}
    errors = {}
    for index, draft in enumerate(drafts):
        intake = intakes.get(draft.code)
        if intake is None:
            continue
        usage = usage_in(
            intake,
            code=draft.code,
            transaction_id=draft.transaction_id,
            external_subscription_id=draft.external_subscription_id,
            properties=draft.properties,
        )
        if found := problems(usage):
            errors[str(index)] = {f"properties.{name}": each for name, each in found.items()}
        else:
            calls[index] = call_of(usage, EPOCH + timedelta(microseconds=draft.at))
    if errors:
        raise Invalid(errors if is_batch else errors["0"])
    return SortedEvents(calls=calls, others=[index for index in range(len(drafts)) if index not in calls])


def answered(
    organization_id: UUID, drafts: Sequence[Draft], calls: Mapping[int, PreparedCall], *, created_at: int
) -> Request:
    """All events of a request, to be answered as they were sent; of a call with the id of its first event or where it is held."""
    request = Request(organization_id=organization_id, drafts=drafts, created_at=created_at)
    identities = list(request.identities)
    for index, call in calls.items():
        if call.held_id is not None:
            identities[index] = call.held_id.bytes
        elif call.identity is not None:
            payer = call.external_subscription_id or call.sent.external_subscription_id
            (identities[index],) = event_identities(organization_id.bytes, [payer], [call.identity])
    request.identities = identities
    return request
