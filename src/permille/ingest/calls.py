"""Usage of language models over HTTP: read, look at, store with the events of others, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from permille.core.errors import Refusal
from permille.core.llm.call import CallSource, DroppedSpans, PreparedCall, Problem, SentCall
from permille.core.llm.plan import CallTerms
from permille.core.record import Record
from permille.events.calls import is_unacceptable, outcome_of, own_request, shared_requests
from permille.events.log import Request
from permille.http.refusals import try_again
from permille.http.shares import Shares

Answer = TypeVar("Answer")

STORED_TOGETHER = 100
"""So many calls are one request of events, unless one of them can't be stored."""


class CallLook(Protocol):
    """What the database says about calls."""

    @property
    def terms(self) -> CallTerms:
        """The organization's."""

    @property
    def counted(self) -> Collection[str]:
        """Those of the identities that were counted before."""

    def payer(self, subscription: str | None, customer: str | None, at: datetime) -> str | Problem:
        """The external id of the subscription that pays for what is sent with these, or why none does."""


class CallDesk(Protocol):
    """What is asked of the database about calls, in a thread. Raises Refusal when it cannot be reached."""

    def prepare(self, organization_id: UUID, calls: Sequence[SentCall]) -> list[PreparedCall]:
        """What becomes of each."""

    def hold(
        self, organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
    ) -> list[PreparedCall]:
        """Keep those with a problem aside."""

    def counted(self, organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime) -> None:
        """Note that these are counted: some of them may have been kept aside before."""

    def look(
        self,
        organization_id: UUID,
        *,
        identities: Sequence[str],
        subscriptions: Collection[str],
        customers: Collection[str],
    ) -> CallLook:
        """What is known of calls with these identities, sent with these external ids."""

    async def look_at_once(
        self, organization_id: UUID, *, identities: Sequence[str], subscriptions: Collection[str]
    ) -> CallLook | None:
        """As `look`, without a thread, of calls that name subscriptions alone; None where one of these is not known."""

    async def close(self) -> None:
        """Give back what it holds; it answers again after that."""


class CallNotes(Protocol):
    """Who keeps what came in lately. It takes no time."""

    def note(
        self,
        organization_id: UUID,
        source: CallSource,
        what: Sequence[PreparedCall | DroppedSpans | Refusal | Callable[[], PreparedCall]],
    ) -> None:
        """Keep what came of a request. What is made later is made where it is shown."""


class CallStore(Record, kw_only=True):
    """Stores calls, each with all of its events or none."""

    desk: CallDesk
    turns: Shares
    """Limits how many questions of an organization the database answers at once."""
    store: Callable[[Sequence[Request]], Awaitable[None]]
    """Queues requests of events and waits until it is decided how each of them went."""

    async def take(
        self, organization_id: UUID, calls: Sequence[SentCall], *, now: datetime, is_dry_run: bool
    ) -> list[PreparedCall]:
        """What became of each. Raises Refusal: then the sender repeats all of them, and each counts once."""
        prepared = await self._ask(organization_id, lambda: self.desk.prepare(organization_id, calls))
        if is_dry_run:
            return prepared
        stored = await self._stored(organization_id, prepared, now=now)
        if any(call.problem for call in stored):
            stored = await self._ask(
                organization_id, partial(self.desk.hold, organization_id, stored, now=now)
            )
        if settled := [call for call in stored if call.problem is None]:
            await self._ask(organization_id, partial(self.desk.counted, organization_id, settled, now=now))
        return stored

    async def _ask(self, organization_id: UUID, question: Callable[[], Answer]) -> Answer:
        async with self.turns.turn(organization_id):
            return await asyncio.to_thread(question)

    async def _stored(
        self, organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
    ) -> list[PreparedCall]:
        """Store calls in few requests; those of one that was refused each by itself."""
        places = [place for place, call in enumerate(calls) if call.events]
        groups = [places[start : start + STORED_TOGETHER] for start in range(0, len(places), STORED_TOGETHER)]
        shared = [shared_requests(organization_id, call, now=now) for call in calls]
        together = [
            own_request(organization_id, [calls[each] for each in group], now=now) for group in groups
        ]
        await self.store([*together, *(each for few in shared for each in few)])
        own: dict[int, Request] = {}
        for group, request in zip(groups, together, strict=True):
            is_apart = len(group) > 1 and (request.duplicates or is_unacceptable(request))
            for place in group:
                own[place] = own_request(organization_id, [calls[place]], now=now) if is_apart else request
        await self.store([request for request in own.values() if not request.is_decided])
        requests = [[own[place], *few] if place in own else few for place, few in enumerate(shared)]
        stored = [outcome_of(call, each) for call, each in zip(calls, requests, strict=True)]
        if any(
            call.problem is None and any(each.failure for each in few)
            for call, few in zip(stored, requests, strict=True)
        ):
            raise try_again()
        return stored
