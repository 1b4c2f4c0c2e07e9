"""What servers know of API keys between requests: when each was last used, and which have changed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import ConnectionPool

from permille.core.api_key import ApiKey
from permille.core.record import Record
from permille.store import api_keys

log = logging.getLogger(__name__)

WRITTEN_SECONDS = 60.0
RETRY_SECONDS = 1.0
MET_SECONDS = 1.0
"""How long a key that was looked up before its request's body is good for the request."""


class KeyUse:
    """When keys were last used: kept in memory, written once a minute."""

    def __init__(self, pool: ConnectionPool[Connection[Any]]) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._used: dict[UUID, datetime] = {}
        self.changes = 0
        """How often keys have changed, on any server, since this one began to listen."""

    def note(self, key_id: UUID, now: datetime) -> None:
        """The key was used. Any thread may say so."""
        with self._lock:
            self._used[key_id] = now

    def write(self) -> None:
        """Write what was noted. A database that is not to be had costs it."""
        with self._lock:
            used, self._used = self._used, {}
        if not used:
            return
        try:
            with self._pool.connection() as conn:
                api_keys.used(conn, used)
        except psycopg.Error as error:
            log.warning("When API keys were last used is not written: %s", error)

    async def run(self) -> None:
        """Write once a minute."""
        while True:
            await asyncio.sleep(WRITTEN_SECONDS)
            await asyncio.to_thread(self.write)


class MetKey(Record, kw_only=True):
    """A key as it was looked up before the body of its request was read."""

    key: ApiKey
    at: float
    """By the monotonic clock."""
    changes: int
    """How often keys had changed when it was looked up."""

    def is_right(self, key_use: KeyUse) -> bool:
        """Whether it need not be looked up again. A key that ends, and one with a test clock, which may have moved, always is."""
        is_fresh = time.monotonic() - self.at < MET_SECONDS and self.changes == key_use.changes
        return is_fresh and self.key.expires_at is None and not self.key.organization.test_mode


async def hear_changes(dsn: str, forget: Callable[[UUID | None], None]) -> None:
    """Call `forget` with each key that changes, on any server; with None when changes may have been missed."""
    while True:
        try:
            async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
                await conn.execute(f"listen {api_keys.CHANNEL}")
                forget(None)
                async for notice in conn.notifies():
                    forget(UUID(notice.payload) if notice.payload else None)
        except psycopg.Error as error:
            log.warning("Changes of API keys can't be heard: %s", error)
        forget(None)
        await asyncio.sleep(RETRY_SECONDS)
