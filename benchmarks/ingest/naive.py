"""The naive way: the same HTTP server, the same checks, one transaction for each request.

PERMILLE_DATABASE_URL=... python -m benchmarks.ingest.naive PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from starlette.concurrency import run_in_threadpool

from permille.clock import system_now
from permille.config import from_environment
from permille.ingest.asgi import EventIntake, _read, _rendered
from permille.ingest.intake import microseconds, read_batch, read_one
from permille.ingest.writer import Memory, Request, open_connection, store


class Naive(EventIntake):
    """Stores each request by itself, on one of 32 connections."""

    async def start(self) -> None:
        self.free = [open_connection(self.dsn) for _ in range(32)]
        self.memory = Memory()

    async def _answer(self, scope: Any, receive: Any) -> tuple[int, bytes]:
        body = await _read(receive, self.config.max_body_bytes)
        organization = await self._organization(scope["headers"])
        if organization is None:
            return 401, b"{}"
        now = system_now()
        is_batch = scope["path"].endswith("/batch")
        drafts = read_batch(body, now=now, limit=10_000) if is_batch else read_one(body, now=now)
        request = Request(organization_id=organization.id, drafts=drafts, created_at=microseconds(now))
        await run_in_threadpool(self._store_alone, request)
        return 200, _rendered(request, is_batch=is_batch)

    def _store_alone(self, request: Request) -> None:
        conn = self.free.pop() if self.free else open_connection(self.dsn)
        store(conn, self.memory, [request])
        self.free.append(conn)


class App:
    def __init__(self) -> None:
        self.intake = Naive(from_environment())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self.intake.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self.intake(scope, receive, send)


if __name__ == "__main__":
    uvicorn.run(
        App(), port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
