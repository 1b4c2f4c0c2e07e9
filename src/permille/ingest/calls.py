"""Usage of language models over HTTP: read, look at, store with the events of others, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from permille.core.errors import Refusal
from permille.core.llm.call import CallSource, DroppedSpans, PreparedCall, SentCall
from permille.events.calls import outcome_of, requests_of
from permille.events.log import Request
from permille.http.refusals import try_again
from permille.http.shares import Shares

Answer = TypeVar("Answer")


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


class CallNotes(Protocol):
    """Who keeps what came in lately. It takes no time."""

    def note(
        self,
        organization_id: UUID,
        source: CallSource,
        what: Sequence[PreparedCall | DroppedSpans | Refusal],
    ) -> None:
        """Keep what came of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStore:
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
        requests = [requests_of(organization_id, call, now=now) for call in calls]
        await self.store([each for group in requests for each in group])
        stored = [outcome_of(call, group) for call, group in zip(calls, requests, strict=True)]
        if any(
            call.problem is None and any(each.failure for each in group)
            for call, group in zip(stored, requests, strict=True)
        ):
            raise try_again()
        return stored
