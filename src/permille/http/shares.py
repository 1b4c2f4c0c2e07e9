"""Shares: each organization gets so many turns at once at something that all of them use, and a short queue for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from permille.core.errors import Refusal

Made = TypeVar("Made")

CREDENTIALS_REMEMBERED = 10_000


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
    """Turns of requests, by organization. Whose a credential is turns out with its first request; then it is remembered."""

    def __init__(self, at_once: int = 4, waiting: int = 36) -> None:
        self._shares = Shares(at_once, waiting, refusal=too_many_requests)
        self._owners: dict[str, UUID] = {}

    def turn(self, credential: str | None) -> AbstractAsyncContextManager[None]:
        """A turn for a request with this key or session; one that has none is refused without much ado."""
        if not credential:
            return nullcontext()
        return self._shares.turn(self.owner(credential))

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
