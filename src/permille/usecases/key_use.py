"""What servers know of API keys between requests: when each was last used, and which have changed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import ConnectionPool

from permille.store import api_keys

log = logging.getLogger(__name__)

WRITTEN_SECONDS = 60.0
RETRY_SECONDS = 1.0


class KeyUse:
    """When keys were last used: kept in memory, written once a minute."""

    def __init__(self, pool: ConnectionPool[Connection[Any]]) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._used: dict[UUID, datetime] = {}

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


async def hear_changes(dsn: str, forget: Callable[[UUID | None], None]) -> None:
    """Call `forget` with each key that changes, on any server; with None when changes may have been missed."""
    while True:
        try:
            async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
                await conn.execute(f"listen {api_keys.CHANNEL}")
                forget(None)
                async for notice in conn.notifies():
                    forget(UUID(notice.payload))
        except psycopg.Error as error:
            log.warning("Changes of API keys can't be heard: %s", error)
        forget(None)
        await asyncio.sleep(RETRY_SECONDS)
