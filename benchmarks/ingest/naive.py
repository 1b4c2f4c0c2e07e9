"""The naive way: the same HTTP server, the same checks, one transaction for each request.

PERMILLE_DATABASE_URL=... python -m benchmarks.ingest.naive PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psycopg
import uvicorn

from permille.config import from_environment
from permille.events.postgres.writer import Request, open_async_connection, store, store_at_once
from permille.ingest.asgi import EventIntake

CONNECTIONS = 32


class Naive(EventIntake):
    """Stores each request by itself, on one of 32 connections."""

    async def start(self) -> None:
        self.free: asyncio.Queue[psycopg.AsyncConnection[Any]] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            self.free.put_nowait(await open_async_connection(self.dsn))

    async def stop(self) -> None:
        self.pool.close()

    async def _store(self, request: Request) -> bool:
        conn = await self.free.get()
        try:
            if not await store_at_once(conn, self.memory, [request]):
                await asyncio.to_thread(self._store_in_a_thread, request)
        finally:
            self.free.put_nowait(conn)
        return True

    def _store_in_a_thread(self, request: Request) -> None:
        with self.pool.connection() as conn:
            store(conn, self.memory, [request])


class App:
    def __init__(self) -> None:
        self.intake = Naive(from_environment())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self.intake.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.intake.stop()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self.intake(scope, receive, send)


if __name__ == "__main__":
    uvicorn.run(
        App(), port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
