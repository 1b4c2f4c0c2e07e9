"""Requests of events that wait to be stored, and which of them are stored together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from permille.events.log import Request
from permille.http.shares import Loads

GROUP_EVENTS = 2_000
SHARED_GROUP_EVENTS = 1_000
ENOUGH_EVENTS = 200
"""A group of so many waits for no more: a transaction costs what forty events of it cost."""
PAUSE_SECONDS = 0.004
"""A smaller one is taken so long after the last one, while more requests are to be expected."""
MOST_SECONDS = 0.5
QUEUE_EVENTS = 100_000
LARGE_EVENTS = 500
"""A request with so many is not stored with small ones of others, nor by several writers at once while others are there."""
EVENT_SECONDS = 20e-6
"""What an event takes of a processor, about."""
CHANGING_SECONDS = 3.0
"""After so long its sender repeats it."""


@dataclass(slots=True)
class WaitingRequest:
    """A request in the queue."""

    request: Request
    until: float = field(default_factory=lambda: time.monotonic() + CHANGING_SECONDS, kw_only=True)
    """Until then it is stored again where its organization's metering is being changed."""

    def decide(self) -> None:
        """It is known how it went."""
        raise NotImplementedError


@dataclass(slots=True)
class AwaitedRequest(WaitingRequest):
    """One that a task waits for."""

    answered: asyncio.Future[None]

    def decide(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)


@dataclass(slots=True)
class WaitingOfOne:
    """What waits of an organization, and how many events that is."""

    requests: deque[WaitingRequest] = field(default_factory=deque)
    events: int = 0


class Most:
    """The greatest number of the last one to two MOST_SECONDS."""

    def __init__(self) -> None:
        self._now = self._before = 0
        self._since = 0.0

    def note(self, number: int) -> None:
        self._now = max(self._now, number)

    def of_late(self, now: float) -> int:
        """`now` is by the monotonic clock, about."""
        if now - self._since > MOST_SECONDS:
            self._since, self._before, self._now = now, self._now, 0
        return max(self._before, self._now)


class Queue:
    """What waits to be stored, all on one event loop; writers take it in groups, one request of each organization in turn."""

    def __init__(self, loads: Loads | None = None) -> None:
        self.loads = loads or Loads()
        self.waiting: dict[int, WaitingOfOne] = {}
        """By the number of the organization's id, which is hashed faster; those first whose turn it is."""
        self.events = 0
        self.closed = False
        self.requests = self.taken = 0
        """Those that wait, and those that writers have."""
        self.most = Most()
        """How many requests were under way at once: clients that send one after the other have no more to send then."""
        self.taken_at = 0.0
        """When the last group was taken."""
        self.turn = asyncio.Lock()
        """One writer at a time waits for a group."""
        self.enough = asyncio.Event()
        self.changed = asyncio.Event()
        self.being_written: Counter[int] = Counter()
        """Organizations of which writers have large requests now."""

    def put(self, waiting: WaitingRequest) -> bool:
        """Whether there was room, of which an organization has half at most."""
        size, owner = len(waiting.request.drafts), waiting.request.organization_id.int
        if self.closed or self.events + size > QUEUE_EVENTS:
            return False
        own = self.waiting.get(owner)
        if own is None:
            own = self.waiting[owner] = WaitingOfOne()
        elif own.events + size > QUEUE_EVENTS // 2:
            return False
        own.requests.append(waiting)
        own.events += size
        self.events += size
        self.changed.set()
        self.requests += 1
        self.most.note(self.requests + self.taken)
        if self._is_enough():
            self.enough.set()
        return True

    async def take(self) -> list[WaitingRequest]:
        """What waits, up to GROUP_EVENTS; pauses while there is nothing. Empty: closed and nothing is left.

        While several organizations wait, each gives one request, and a group beyond that is small: none waits long for
        many of another. The queue is to know when the group is `written`.
        """
        async with self.turn:
            while True:
                while self._next_owner(self._held_back()) is None and not self.closed:
                    self.changed.clear()
                    await self.changed.wait()
                await self._wait_for_company()
                group = self._group()
                if group or self.closed:
                    return group

    async def _wait_for_company(self) -> None:
        """Let a small group grow, as long as more is to be expected."""
        while not self._is_enough():
            left = self.taken_at + PAUSE_SECONDS - time.monotonic()
            if left <= 0:
                return
            self.enough.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.enough.wait()

    def _is_enough(self) -> bool:
        outstanding = self.requests + self.taken
        return self.closed or self.events >= ENOUGH_EVENTS or outstanding >= self.most.of_late(self.taken_at)

    def _group(self) -> list[WaitingRequest]:
        held_back = self._held_back()
        group: list[WaitingRequest] = []
        size, owners, taken = 0, len(self.waiting), Counter[int]()
        while (owner := self._next_owner(held_back)) is not None:
            own = self.waiting[owner]
            length = len(own.requests[0].request.drafts)
            limit = GROUP_EVENTS if owners == 1 or len(group) < owners else SHARED_GROUP_EVENTS
            if group and size + length > limit:
                break
            if group and owners > 1 and _is_large(own.requests[0]) != _is_large(group[0]):
                break
            group.append(own.requests.popleft())
            own.events -= length
            size += length
            taken[owner] += length
            if not own.requests:
                del self.waiting[owner]
            elif owners > 1:
                self.waiting[owner] = self.waiting.pop(owner)  # behind the others
        self.events -= size
        self.requests -= len(group)
        self.taken += len(group)
        self.taken_at = time.monotonic()
        if size >= LARGE_EVENTS:
            self.being_written.update(_large_owners(group))
        for owner, events in taken.items():
            self.loads.add(UUID(int=owner), events * EVENT_SECONDS)
        return group

    def written(self, group: Sequence[WaitingRequest]) -> None:
        """What was taken is stored, or is not going to be."""
        self.taken -= len(group)
        if self.being_written and (large := _large_owners(group)):
            self.being_written.subtract(large)
            self.being_written += Counter()  # without those that have none left
            self.changed.set()

    def _next_owner(self, held_back: Collection[int]) -> int | None:
        """Whose turn it is."""
        if not held_back:
            return next(iter(self.waiting), None)
        return next((owner for owner in self.waiting if owner not in held_back), None)

    def _held_back(self) -> Collection[int]:
        """While others are there, one of which a writer has large requests leaves the next writer to them."""
        if self.being_written and not self.closed and (len(self.waiting) > 1 or self.loads.in_company):
            return self.waiting.keys() & self.being_written.keys()
        return ()

    def close(self) -> None:
        self.closed = True
        self.changed.set()
        self.enough.set()


def _is_large(waiting: WaitingRequest) -> bool:
    return len(waiting.request.drafts) >= LARGE_EVENTS


def _large_owners(group: Iterable[WaitingRequest]) -> set[int]:
    return {each.request.organization_id.int for each in group if _is_large(each)}
