"""Who sends: API keys, remembered for a few seconds, and what else the intake asks about a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from permille.clock import system_now
from permille.core.api_key import ApiKey
from permille.core.llm.intake import Intakes
from permille.core.record import Record
from permille.events.draft import Draft
from permille.events.log import Request
from permille.http.shares import Shares, too_many_requests
from permille.ingest.calls import CallDesk, CallNotes
from permille.ingest.wire_format import Warnings

KEYS_REMEMBERED = 10_000
KEY_SECONDS = 5.0
REFRESH_SECONDS = 2.5
"""A key that is used is looked up again so long before it would be forgotten."""
LOOKUPS_AT_ONCE, LOOKUPS_WAITING = 2, 2_000
"""Requests with a key, or of an organization, that ask the database something at once, and that wait for it."""


class Answers(Record, kw_only=True):
    """What the intake asks about a request, each in a thread. They raise Refusal when the database cannot be reached."""

    key: Callable[[str], ApiKey | None]
    """What the API key is."""
    intakes: Callable[[UUID], Intakes]
    """Which events of an organization are usage of language models."""
    used: Callable[[UUID, datetime], None]
    """Note that a key was used, and when; not for each request while the key is remembered."""
    warnings: Callable[[UUID, Sequence[Draft]], Warnings]
    """What of the events that were just taken will not count, and why."""
    unevaluable: Callable[[UUID, Mapping[int, Draft]], dict[int, str]]
    """The events, not stored, whose metric's expression has no value, and why not."""
    unacceptable: Callable[[Request], int | None]
    """The index of the event for which a request was not stored."""
    calls: CallDesk
    """What becomes of usage of language models."""
    notes: CallNotes
    """Keeps what came of it lately."""


class ApiSender(Record):
    """A key, and which events of its organization are usage of language models."""

    key: ApiKey
    intakes: Intakes


class _Remembered(Record):
    sender: ApiSender
    until: float


class SenderMemory:
    """Keys of live organizations are remembered for a few seconds, and so is which events are calls. In test mode both are read each
    time: the clock may have been moved, and what is set up is used at once, before anybody hears of it.

    All of it is on one event loop. A key that is in use is looked up again in time, by one task: requests don't wait for it.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.lookups = Shares(LOOKUPS_AT_ONCE, LOOKUPS_WAITING, refusal=too_many_requests)
        self._keys: dict[str, _Remembered] = {}
        self._looking: dict[str, asyncio.Task[ApiSender | None]] = {}
        self._changes = 0

    def remembered(self, secret: str) -> ApiSender | None:
        """The sender, if it is remembered."""
        known, now = self._keys.get(secret), time.monotonic()
        if known is None or known.until <= now:
            return None
        if known.until - now < REFRESH_SECONDS and secret not in self._looking:
            self._look(secret)
        return known.sender

    async def sender(self, secret: str) -> ApiSender | None:
        """Whose key it is, None: nobody's."""
        found = self.remembered(secret)
        if found is not None:
            return found
        looking = self._looking.get(secret)
        if looking is not None:
            found = await asyncio.shield(looking)
            if found is not None and not found.key.organization.test_mode:
                return found
            return await self._looked_up(secret)  # what another began to look up may have changed since
        return await asyncio.shield(self._look(secret))

    def forget(self, key_id: UUID | None) -> None:
        """The key has changed, None: any may have. What is being looked up meanwhile is not remembered, nor waited for."""
        self._changes += 1
        self._looking = {}
        self._keys = {
            secret: known for secret, known in self._keys.items() if key_id not in (None, known.sender.key.id)
        }

    def _look(self, secret: str) -> asyncio.Task[ApiSender | None]:
        """Look a key up for all who wait for it."""
        task = self._looking[secret] = asyncio.create_task(self._looked_up(secret))

        def end(task: asyncio.Task[ApiSender | None]) -> None:
            if self._looking.get(secret) is task:
                del self._looking[secret]
            if not task.cancelled():
                task.exception()  # who waits for it has it; a refresh that fails is repeated

        task.add_done_callback(end)
        return task

    async def _looked_up(self, secret: str) -> ApiSender | None:
        changes = self._changes
        async with self.lookups.turn(secret):
            found = await asyncio.to_thread(self._ask, secret)
        if found is None:
            self._keys.pop(secret, None)
            return None
        self.answers.used(found.key.id, system_now())
        if changes != self._changes:
            return found
        if not found.key.organization.test_mode:
            if len(self._keys) >= KEYS_REMEMBERED:
                self._keys.pop(next(iter(self._keys)))
            self._keys[secret] = _Remembered(found, time.monotonic() + _seconds_to_remember(found.key))
        return found

    def _ask(self, secret: str) -> ApiSender | None:
        key = self.answers.key(secret)
        if key is None:
            return None
        return ApiSender(key, self.answers.intakes(key.organization.id))


def _seconds_to_remember(key: ApiKey) -> float:
    if key.expires_at is None:
        return KEY_SECONDS
    return min(KEY_SECONDS, (key.expires_at - system_now()).total_seconds())
