"""Shares: each organization gets so many turns at once at something that all of them use, and a short queue for more."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar
from uuid import UUID

from permille.core.errors import Refusal

Made = TypeVar("Made")

CREDENTIALS_REMEMBERED = 10_000
HEAVY_SECONDS = 1.5
"""An organization may be heavy above it: one turn used without a pause comes to 1.4 of seconds that halve each second."""
COMPANY_SECONDS = 2.0
"""How long after its last turn an organization is still there to be considered."""
COMPANY_MAX = 64
"""Of how many that is looked at."""


@dataclass(slots=True)
class _Share:
    turns: asyncio.Semaphore
    users: int = 0


class Shares:
    """On one event loop. Whose turns they are is whatever can be compared: an organization, or a key that is not known yet."""

    def __init__(
        self, at_once: int, waiting: int, *, refusal: Callable[[], Refusal], seconds: float = 20.0
    ) -> None:
        self._at_once = at_once
        self._most = at_once + waiting
        self._refusal = refusal
        self._seconds = seconds
        self._shares: dict[Hashable, _Share] = {}

    @asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[None]:
        """A turn, as soon as the owner has fewer than it may. Raises a refusal when too many wait, or for too long."""
        share = self._shares.get(owner)
        if share is None:
            share = self._shares[owner] = _Share(asyncio.Semaphore(self._at_once))
        if share.users >= self._most:
            raise self._refusal()
        share.users += 1
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await share.turns.acquire()
            except TimeoutError:
                raise self._refusal() from None
            try:
                yield
            finally:
                share.turns.release()
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[owner]


def too_many_requests() -> Refusal:
    """429: the organization has as many requests at once as it may."""
    return Refusal(status=429, code="too_many_requests")


def too_many_documents() -> Refusal:
    """503: too many documents wait to be made."""
    return Refusal(status=503, code="too_many_documents")


class Turns:
    """Turns of requests, by organization. Whose a credential is turns out with its first request; then it is remembered.

    While others are there, an organization that uses several without a pause, and more than they do, gets fewer at once,
    for half of the cores: what the database and this process do for each of its turns is otherwise taken from them.
    """

    def __init__(
        self,
        at_once: int = 4,
        waiting: int = 36,
        *,
        cores: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shares = Shares(at_once, waiting, refusal=too_many_requests)
        fewer = min(at_once, max(1, (cores or os.cpu_count() or 1) // 2))
        self._heavy = Shares(fewer, at_once, refusal=too_many_requests)
        self._owners: dict[str, UUID] = {}
        self._used: dict[Hashable, tuple[float, float]] = {}
        """Owner -> the seconds of its turns, which halve each second, and when that was so; the latest at the end."""
        self._clock = clock

    @asynccontextmanager
    async def turn(self, credential: str | None) -> AsyncIterator[None]:
        """A turn for a request with this key or session; one that has none is refused without much ado."""
        if not credential:
            yield
            return
        owner = self.owner(credential)
        async with self._shares.turn(owner), self._rarer_turn(owner):
            began = self._clock()
            self._note(owner, 0.0)
            try:
                yield
            finally:
                self._note(owner, self._clock() - began)

    def _note(self, owner: Hashable, seconds: float) -> None:
        """The owner has a turn, or has had one for so long."""
        now = self._clock()
        known, at = self._used.pop(owner, (0.0, now))
        self._used[owner] = (known * 0.5 ** (now - at) + seconds, now)
        if len(self._used) > CREDENTIALS_REMEMBERED:
            del self._used[next(iter(self._used))]

    def _rarer_turn(self, owner: Hashable) -> AbstractAsyncContextManager[None]:
        return self._heavy.turn(owner) if self._makes_room(owner) else nullcontext()

    def _makes_room(self, owner: Hashable) -> bool:
        """Whether the owner has used much of late, more than a fair share of what those who are there have used.

        Times are of the wall clock: on a busy machine they are long for everybody, so that much alone says little.
        """
        now = self._clock()
        seconds, at = self._used.get(owner, (0.0, now))
        own = seconds * 0.5 ** (now - at)
        if own <= HEAVY_SECONDS:
            return False
        latest = islice(reversed(self._used.items()), COMPANY_MAX)
        others = [
            seconds * 0.5 ** (now - at)
            for each, (seconds, at) in latest
            if each != owner and now - at <= COMPANY_SECONDS
        ]
        return bool(others) and own > sum(others) / len(others)

    def owner(self, credential: str) -> Hashable:
        """Whose the credential is, as far as that is known."""
        return self.owner_of(credential) or credential

    def owner_of(self, credential: str | None) -> UUID | None:
        """The organization whose it is, where that is known."""
        return self._owners.get(credential) if credential else None

    def learn(self, credential: str, organization_id: UUID) -> None:
        """The credential is one of this organization. Any thread may say so."""
        if self._owners.get(credential) != organization_id:
            if len(self._owners) >= CREDENTIALS_REMEMBERED:
                self._owners = {}
            self._owners[credential] = organization_id


class Workshop:
    """Threads of its own for what takes long: few at once, one of them for each owner, and a short queue for more."""

    def __init__(self, at_once: int = 2, waiting: int = 20, waiting_of_one: int = 8) -> None:
        self._of_one = Shares(1, waiting_of_one, refusal=too_many_documents)
        self._all = Shares(at_once, waiting, refusal=too_many_documents)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="documents")

    async def make(self, owner: Hashable, work: Callable[[], Made]) -> Made:
        """What the work makes. Raises Refusal with 503 when too many wait."""
        async with self._of_one.turn(owner), self._all.turn(None):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
