"""The log of requests that write: kept in memory for a second, then written as one set, so that no request waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.store import api_logs
from permille.store.api_logs import LoggedRequest

log = logging.getLogger(__name__)

WRITTEN_SECONDS = 1.0
WAITING_MAX = 5_000
"""Requests that wait to be written, of all organizations."""
SHARE_MAX = WAITING_MAX // 5
"""Those of one organization."""


class ApiLog:
    """What waits to be written. What doesn't fit is not logged, and the number of that is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[LoggedRequest] = []
        self._by_organization: dict[Any, int] = {}
        self._missed = 0

    def note(self, request: LoggedRequest) -> None:
        """A request was answered. Any thread may say so."""
        with self._lock:
            share = self._by_organization.get(request.organization_id, 0)
            if len(self._waiting) >= WAITING_MAX or share >= SHARE_MAX:
                self._missed += 1
                return
            self._waiting.append(request)
            self._by_organization[request.organization_id] = share + 1

    def write(self, pool: ConnectionPool[Connection[Any]]) -> None:
        """Write what waits. A database that is not to be had costs it."""
        with self._lock:
            waiting, self._waiting, self._by_organization = self._waiting, [], {}
            missed, self._missed = self._missed, 0
        if missed:
            log.warning("The log of requests misses %s: there were too many at once", missed)
        if not waiting:
            return
        try:
            with pool.connection() as conn:
                api_logs.add(conn, waiting)
        except psycopg.Error as error:
            log.warning("The log of requests misses %s: %s", len(waiting), error)

    async def run(self, pool: ConnectionPool[Connection[Any]]) -> None:
        """Write once a second."""
        while True:
            await asyncio.sleep(WRITTEN_SECONDS)
            await asyncio.to_thread(self.write, pool)
