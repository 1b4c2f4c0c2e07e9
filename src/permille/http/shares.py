"""Shares: each organization gets so many turns at once at something that all of them use, and a short queue for more."""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TypeVar
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from permille.core.errors import Refusal
from permille.database.connections import processor_seconds, processor_waits
from permille.http.strain import Strain

Made = TypeVar("Made")

CREDENTIALS_REMEMBERED = 10_000
LATELY_SECONDS = 2.0
"""What was longer ago counts little."""
LITTLE = 0.5
"""So much of a processor is never more than a fair share: who takes no more is to feel little of others."""
NEW_SECONDS = 1.0
"""Who has come no longer ago is not known yet."""
REST_SECONDS_MAX = 2.0
HELD_SECONDS = 1.0
"""What takes longer, without a step, keeps no other work of its owner waiting any more."""
STEP_WAITS_SECONDS = 20.0


EVENTS, DOCUMENTS = "events", "documents"
"""Kinds of work; those of requests are their routes."""


@dataclass(slots=True)
class _Load:
    """How much of a processor an owner took on average of late."""

    since: float
    """When it came, or came again."""
    at: float
    average: float = 0.0

    def of_late(self, now: float) -> float:
        return self.average * math.exp((self.at - now) / LATELY_SECONDS)

    def add(self, seconds: float, now: float) -> None:
        self.average, self.at = self.of_late(now) + seconds / LATELY_SECONDS, now


class Gate:
    """Lets so many in at once, on one event loop: of those who wait, one of each kind in turn, and within a kind as they came."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By kind, that whose turn it is first."""

    async def enter(self, kind: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was let in meanwhile
                self.leave()
            raise

    def leave(self) -> None:
        while self._waiting:
            kind, places = next(iter(self._waiting.items()))
            place = places.popleft()
            if not places:
                del self._waiting[kind]
            if place.cancelled():
                continue
            if places:
                self._waiting[kind] = self._waiting.pop(kind)  # behind the other kinds
            place.set_result(None)
            return
        self._free += 1

    @property
    def is_full(self) -> bool:
        return not self._free


@dataclass(slots=True)
class _Lane:
    """Where all work of an owner goes that has to do one thing at a time."""

    alone: Gate = field(default_factory=lambda: Gate(1))
    free_at: float = 0.0
    """The end of its rest."""


@dataclass(slots=True)
class _Piece:
    """A piece of an owner's work, on an event loop."""

    owner: Hashable
    kind: Hashable
    loop: asyncio.AbstractEventLoop
    is_heavy: bool = False
    has_waited: bool = False
    """Whether it was one thing at a time when it began: what it does within is a part of it."""
    began: float = 0.0
    """It, or its latest step."""
    _lane: _Lane | None = None
    _passing_on: asyncio.TimerHandle | None = None

    async def enter(self, lane: _Lane) -> None:
        await lane.alone.enter(self.kind)
        self._lane = lane

    def begin(self, now: float) -> None:
        self.began = now
        self._passing_on = self.loop.call_later(HELD_SECONDS, self.leave)

    def leave(self) -> None:
        if self._passing_on is not None:
            self._passing_on.cancel()
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.alone.leave()


_at_work: ContextVar[_Piece | None] = ContextVar("at_work", default=None)
"""Which piece of work a task does now, and the threads that it waits for."""


class Loads:
    """Who takes most, and what becomes of that: an owner is heavy while others are there and it takes more than they do on average.

    That only matters while others feel it, which is the `strain`. Then a heavy owner does one thing at a time, of whatever kind,
    and rests after each, as many times as long as it took. One that has just come does one thing at a time too, until it is known.

    Time on a processor counts, not time that passes: waiting for others makes nobody heavy. Once one is heavy, the
    time that its work takes, and that it waits for the end of a rest, count too, so that it stays heavy at that rate. `clock` is a monotonic one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.strain = Strain()
        self._lock = Lock()
        """Steps of long work are counted by their threads."""
        self._all = _Load(clock(), clock())
        self._of: dict[Hashable, _Load] = {}
        self._lanes: dict[Hashable, _Lane] = {}
        self._looked = clock()

    def add(self, owner: Hashable, seconds: float) -> None:
        """The owner took so much of a processor. Any thread may say so."""
        with self._lock:
            now = self._clock()
            load = self._of.get(owner)
            if load is None:
                self._forget(now)
                load = self._of[owner] = _Load(now, now)
            elif now - load.at > NEW_SECONDS:
                load.since = now
            load.add(seconds, now)
            self._all.add(seconds, now)

    async def counted(
        self,
        owner: Callable[[], Hashable | None],
        work: Callable[[], Made],
        run: Callable[[Callable[[], Made]], Awaitable[Made]],
    ) -> Made:
        """What the work makes, which `run` does in a thread; the time of that thread and its database counts.

        `owner` says afterwards whose it was; None: nobody's.
        """
        took = waited = 0.0

        def timed() -> Made:
            nonlocal took, waited
            before, waits = processor_seconds(), processor_waits()
            try:
                return work()
            finally:
                took, waited = processor_seconds() - before, processor_waits() - waits

        try:
            return await run(timed)
        finally:
            if (found := owner()) is not None:
                self.add(found, took)
                if self._takes_little(found):
                    self.strain.worked(took, waited)

    @asynccontextmanager
    async def piece(self, owner: Hashable, kind: Hashable = None) -> AsyncIterator[bool]:
        """A piece of the owner's work, as soon as it may begin, and whether the owner is heavy. What it does within is a part of it.

        Where pieces of the owner wait, one of each `kind` begins in turn.
        """
        before = _at_work.get()
        if before is not None and before.owner == owner and before.has_waited:
            yield False
            return
        piece = _Piece(owner, kind, asyncio.get_running_loop())
        _at_work.set(piece)
        try:
            if self.is_heavy(owner) or self._is_new(owner):
                piece.has_waited = True
                await self._begin(piece)
            yield piece.is_heavy
        finally:
            if piece.is_heavy:
                took = self._clock() - piece.began
                self.add(owner, min(took, HELD_SECONDS))
                self._lane_of(owner).free_at = self._clock() + self._rest_after(took)
            piece.leave()
            _at_work.set(before)

    def _lane_of(self, owner: Hashable) -> _Lane:
        return self._lanes.setdefault(owner, _Lane())

    async def _begin(self, piece: _Piece) -> None:
        """Begin a piece, or its next step, when nothing else of its owner is done and the owner's rest is over."""
        lane = self._lane_of(piece.owner)
        await piece.enter(lane)
        try:
            piece.is_heavy = self.is_heavy(piece.owner)
            if piece.is_heavy and (rest := lane.free_at - self._clock()) > 0:
                await asyncio.sleep(rest)
                self.add(piece.owner, rest)
        except BaseException:
            piece.leave()
            raise
        piece.begin(self._clock())

    def rest(self, owner: Hashable, step_seconds: float, processor_seconds: float) -> None:
        """Between the steps of long work, in its thread: a heavy owner rests, as many times as long as the last one took.

        The next step waits for its turn among what else the owner does, for STEP_WAITS_SECONDS at most. What the work took of processors
        until now is not counted yet.
        """
        piece = _at_work.get()
        if piece is None or not self.is_heavy(owner, more=processor_seconds):
            return
        self.add(owner, step_seconds)
        waiting = asyncio.run_coroutine_threadsafe(self._next_step(piece, step_seconds), piece.loop)
        with suppress(TimeoutError):
            waiting.result(STEP_WAITS_SECONDS)
            return
        waiting.cancel()

    async def _next_step(self, piece: _Piece, took: float) -> None:
        lane = self._lane_of(piece.owner)
        lane.free_at = self._clock() + self._rest_after(took)
        piece.leave()
        await self._begin(piece)

    def _rest_after(self, took: float) -> float:
        return min(took * self.strain.level, REST_SECONDS_MAX)

    def latest(self, count: int, seconds: float) -> list[UUID]:
        """The organizations that did something last, at most so many seconds ago."""
        with self._lock:
            since = self._clock() - seconds
            found = [(each.at, owner) for owner, each in self._of.items() if isinstance(owner, UUID)]
        return [owner for at, owner in heapq.nlargest(count, found) if at >= since]

    def felt(self, waited: float, elapsed: float) -> None:
        """The event loop waited for so long, in so many seconds that passed."""
        if self.in_company:
            self.strain.note(waited, elapsed)
        else:
            self.strain.calm()

    @property
    def in_company(self) -> bool:
        """Whether several are there, or were a moment ago."""
        with self._lock:
            self._forget(self._clock())
            return len(self._of) > 1

    def is_heavy(self, owner: Hashable, *, more: float = 0.0) -> bool:
        """Whether it takes more than its share, and others who take little feel it; `more` are seconds that are not counted yet."""
        if not self.strain.level:
            return False
        with self._lock:
            now, load, lane = self._clock(), self._of.get(owner), self._lanes.get(owner)
            if load is None:
                return False
            self._forget(now)
            owners, uncounted = len(self._of), more / LATELY_SECONDS
            if owners < 2:
                return False
            if lane is not None and lane.free_at > now:
                return True  # it rests
            share = max(LITTLE, (self._all.of_late(now) + uncounted) / owners)
            takes_more = load.of_late(now) + uncounted > share
            return takes_more and any(each.of_late(now) <= LITTLE for each in self._of.values())

    def _takes_little(self, owner: Hashable) -> bool:
        with self._lock:
            load = self._of.get(owner)
            return load is None or load.of_late(self._clock()) <= LITTLE

    def _is_new(self, owner: Hashable) -> bool:
        """Whether it has come a moment ago, and others are there."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            load = self._of.get(owner)
            if load is None:
                return bool(self._of)
            return len(self._of) > 1 and (now - load.since < NEW_SECONDS or now - load.at > NEW_SECONDS)

    def _forget(self, now: float) -> None:
        """Owners that are not there any more; they are looked for now and then."""
        if now - self._looked > LATELY_SECONDS:
            self._looked = now
            self._of = {owner: load for owner, load in self._of.items() if now - load.at < 2 * LATELY_SECONDS}
            self._lanes = {
                owner: lane for owner, lane in self._lanes.items() if lane.alone.is_full or lane.free_at > now
            }


@dataclass(slots=True)
class _Share:
    turns: Gate
    users: int = 0


class Shares:
    """On one event loop. Whose turns they are is whatever can be compared: an organization, or a key that is not known yet.

    With `loads`, an owner takes its turns as pieces of its work there.
    """

    def __init__(
        self,
        at_once: int,
        waiting: int,
        *,
        refusal: Callable[[], Refusal],
        seconds: float = 20.0,
        loads: Loads | None = None,
    ) -> None:
        self._at_once = at_once
        self._most = at_once + waiting
        self._refusal = refusal
        self._seconds = seconds
        self._loads = loads
        self._shares: dict[Hashable, _Share] = {}

    @asynccontextmanager
    async def turn(self, owner: Hashable, kind: Hashable = None) -> AsyncIterator[bool]:
        """A turn, as soon as the owner has fewer than it may, and whether it is heavy. Raises a refusal when too many wait, or for too long.

        Where the owner's turns are waited for, each `kind` has one in turn.
        """
        share = self._shares.get(owner)
        if share is None:
            share = self._shares[owner] = _Share(Gate(self._at_once))
        if share.users >= self._most:
            raise self._refusal()
        share.users += 1
        try:
            async with AsyncExitStack() as taken:
                try:
                    async with asyncio.timeout(self._seconds):
                        await share.turns.enter(kind)
                        taken.callback(share.turns.leave)
                        is_heavy = False
                        if self._loads is not None:
                            is_heavy = await taken.enter_async_context(self._loads.piece(owner, kind))
                except TimeoutError:
                    raise self._refusal() from None
                yield is_heavy
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

    def __init__(self, at_once: int = 4, waiting: int = 36, *, loads: Loads | None = None) -> None:
        self.loads = loads or Loads()
        self._shares = Shares(at_once, waiting, refusal=too_many_requests, loads=self.loads)
        self._owners: dict[str, UUID] = {}

    async def run(self, credential: str | None, work: Callable[[bool], Made], kind: Hashable = None) -> Made:
        """What the work of this kind makes, in a thread, as soon as the owner of this key or session has a turn.

        It is called with whether its owner is heavy. A request without a credential waits for no turn: it is refused
        without much ado. Raises what `Shares.turn` and the work raise.
        """
        if not credential:
            return await run_in_threadpool(work, False)
        owner = self.owner(credential)
        async with self._shares.turn(owner, kind) as is_heavy:
            known = partial(self.owner_of, credential)
            return await self.loads.counted(known, partial(work, is_heavy), run_in_threadpool)

    def rest_of(self, owner: Hashable) -> Callable[[float, float], None]:
        """Called between the steps of long work with how long the last one took, and the time of processors until now."""
        return partial(self.loads.rest, owner)

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

    def __init__(
        self, at_once: int = 2, waiting: int = 20, waiting_of_one: int = 8, *, loads: Loads | None = None
    ) -> None:
        self._loads = loads or Loads()
        self._of_one = Shares(1, waiting_of_one, refusal=too_many_documents, loads=self._loads)
        self._all = Shares(at_once, waiting, refusal=too_many_documents)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="documents")

    async def make(self, owner: Hashable, work: Callable[[], Made]) -> Made:
        """What the work makes. Raises Refusal with 503 when too many wait."""
        run = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        async with self._of_one.turn(owner, DOCUMENTS), self._all.turn(None):
            return await self._loads.counted(lambda: owner, work, run)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
