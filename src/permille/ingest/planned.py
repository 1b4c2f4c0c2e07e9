"""Usage of language models by plans: what fits one is stored without being read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from permille.core.instants import microseconds
from permille.core.llm.call import Problem
from permille.core.llm.plan import CallTerms
from permille.core.record import Record
from permille.events.calls import is_unacceptable
from permille.events.columns import OnDemand, UsualEvents
from permille.events.log import PlannedCalls, Request
from permille.http.refusals import try_again
from permille.http.shares import Shares
from permille.ingest.calls import STORED_TOGETHER, CallDesk, CallLook
from permille.ingest.decoders.lago import BATCH
from permille.ingest.planned_call import PaidCall, PlannedCall, paid
from permille.ingest.plans import PlanMemory
from permille.ingest.usage_format import CallBatch, UsageFormat

_SECOND = 1_000_000


class PlannedStore(Record, kw_only=True):
    """Stores calls that plans fit."""

    desk: CallDesk
    plans: PlanMemory
    turns: Shares
    """Limits how many questions of an organization the database answers at once."""
    read: Callable[[UUID, bytes, datetime, int], UsualEvents | None]
    """Reads a body of so many events in one pass, where all about them is usual and known."""
    store: Callable[[Sequence[Request]], Awaitable[None]]
    """Queues requests of events and waits until it is decided how each of them went."""

    async def take(
        self, organization_id: UUID, wire: UsageFormat, batch: CallBatch, *, now: datetime
    ) -> list[PaidCall | None]:
        """The calls that are counted now; None for each that is to be read. Raises Refusal: then the sender repeats all."""
        found: list[PaidCall | None] = [None] * len(batch.usages)
        calls = self.plans.planned(organization_id, batch, now, names_clients=wire.names_clients)
        if not calls:
            return found
        stored: dict[int, PaidCall] = {}
        terms = self.plans.terms(organization_id)
        if terms and _are_of_subscriptions(calls.values(), terms) and self.plans.presumes(organization_id):
            presumed = {at: paid(call, call.external_subscription_id or "") for at, call in calls.items()}
            stored, calls = await self._stored(organization_id, presumed, terms, now)
            self.plans.presumed(organization_id, rightly=not calls)
        if calls:
            look = await self._look_at(organization_id, list(calls.values()))
            if self.plans.hold_under(organization_id, look.terms):
                looked_at, _ = await self._stored(organization_id, _paid(calls, look), look.terms, now)
                stored |= looked_at
        return [stored.get(at) for at in range(len(found))]

    async def _stored(
        self, organization_id: UUID, calls: Mapping[int, PaidCall], terms: CallTerms, now: datetime
    ) -> tuple[dict[int, PaidCall], dict[int, PlannedCall]]:
        """Those of the calls that are counted now, and those that aren't as was taken for granted.

        In neither are those of whose events one is to be looked at closely.
        """
        every = list(calls.items())
        groups = [dict(every[at : at + STORED_TOGETHER]) for at in range(0, len(every), STORED_TOGETHER)]
        usual = [each for group in groups if (each := self._usual(organization_id, group, terms, now))]
        self.plans.went(organization_id, is_usual=bool(usual))
        await self.store([each.request for each in usual])
        if any(each.request.failure and not is_unacceptable(each.request) for each in usual):
            raise try_again()
        stored = {at: call for each in usual if each.request.is_stored for at, call in each.calls.items()}
        others = {
            at: call.call for each in usual if each.request.duplicates for at, call in each.calls.items()
        }
        return stored, others

    async def learn(self, organization_id: UUID, usages: Sequence[Any], now: datetime) -> None:
        """Learn from usages that were read."""
        if self.plans.terms(organization_id) is None:
            look = await self._ask(organization_id, partial(self._look, organization_id, ()))
            self.plans.begin(organization_id, look.terms)
        self.plans.learn(organization_id, usages, now)

    async def _look_at(self, organization_id: UUID, calls: Sequence[PlannedCall]) -> CallLook:
        if not any(call.external_customer_id for call in calls):
            look = await self.desk.look_at_once(
                organization_id,
                identities=[call.identity for call in calls],
                subscriptions={call.external_subscription_id or "" for call in calls},
            )
            if look is not None:
                return look
        found: CallLook = await self._ask(organization_id, partial(self._look, organization_id, calls))
        return found

    def _look(self, organization_id: UUID, calls: Sequence[PlannedCall]) -> CallLook:
        return self.desk.look(
            organization_id,
            identities=[call.identity for call in calls],
            subscriptions={name for call in calls if (name := call.external_subscription_id)},
            customers={name for call in calls if (name := call.external_customer_id)},
        )

    async def _ask(self, organization_id: UUID, question: Callable[[], Any]) -> Any:
        async with self.turns.turn(organization_id):
            return await asyncio.to_thread(question)

    def _usual(
        self, organization_id: UUID, calls: Mapping[int, PaidCall], terms: CallTerms, now: datetime
    ) -> _Usual | None:
        """A request of these calls, without those of whose events one is to be looked at closely; None without any."""
        request = partial(self._request, organization_id, terms, now)
        found = request(list(calls.values()))
        if found is None:
            calls = {at: call for at, call in calls.items() if request([call])}
            found = request(list(calls.values())) if calls else None
        return None if found is None else _Usual(calls, found)

    def _request(
        self, organization_id: UUID, terms: CallTerms, now: datetime, calls: Sequence[PaidCall]
    ) -> Request | None:
        body, most = _body(calls), sum(call.events_count for call in calls)
        usual = self.read(organization_id, body, now, most)
        if usual is None:
            return None
        identities = [call.call.identity for call in calls]
        return Request(
            organization_id=organization_id,
            drafts=OnDemand(most, partial(BATCH.decode, body, now, most)),
            created_at=microseconds(now),
            counts_once=identities,
            planned=PlannedCalls(
                stamp=terms.stamp,
                identities=identities,
                payers=[call.external_subscription_id for call in calls],
                ats=[_microseconds(call.call.at) for call in calls],
            ),
            usual=usual,
        )


class _Usual(Record):
    """Calls by their places in what was sent, and their events as one request."""

    calls: Mapping[int, PaidCall]
    request: Request


def _are_of_subscriptions(calls: Iterable[PlannedCall], terms: CallTerms) -> bool:
    """Whether each is paid by the subscription that it names, if that runs."""
    return all(
        call.external_subscription_id and not (call.has_payer_names and terms.has_payer_rules)
        for call in calls
    )


def _paid(calls: Mapping[int, PlannedCall], look: CallLook) -> dict[int, PaidCall]:
    """The calls with who pays for them, without those that were counted before, that nobody pays for, or for which there may be a rule."""
    payers: dict[tuple[str | None, str | None, datetime], str | Problem] = {}
    found: dict[int, PaidCall] = {}
    for place, call in calls.items():
        if call.has_payer_names and look.terms.has_payer_rules:
            continue
        sent = call.external_subscription_id, call.external_customer_id, call.at
        payer = payers.get(sent)
        if payer is None:
            payer = payers[sent] = look.payer(*sent)
        if not isinstance(payer, Problem) and call.identity not in look.counted:
            found[place] = paid(call, payer)
    return found


def _body(calls: Sequence[PaidCall]) -> bytes:
    """Their events as a body of `/events/batch`."""
    return f'{{"events":[{",".join([call.events(_seconds(call.call.at)) for call in calls])}]}}'.encode()


_microseconds = lru_cache(maxsize=64)(microseconds)


@lru_cache(maxsize=64)
def _seconds(at: datetime) -> str:
    seconds, rest = divmod(microseconds(at), _SECOND)
    return f"{seconds}.{rest:06d}"
