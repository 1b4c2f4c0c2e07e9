"""The naive way: the same HTTP server, the same checks, one transaction for each request.

PERMILLE_DATABASE_URL=... python -m benchmarks.ingest.naive PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from permille.app import intake_of
from permille.config import from_environment
from permille.database.connections import open_pool
from permille.events.log import Request, Writer
from permille.events.postgres.writer import writers
from permille.ingest.asgi import EventIntake

WRITERS = 16
"""Each opens two connections."""


class Naive(EventIntake):
    """Stores each request by itself, with one of 16 writers."""

    async def start(self) -> None:
        self.free: asyncio.Queue[Writer] = asyncio.Queue()
        for writer in self.writers:
            self.free.put_nowait(writer)

    async def stop(self) -> None:
        for writer in self.writers:
            await writer.close()

    async def _store(self, requests: Sequence[Request]) -> None:
        writer = await self.free.get()
        try:
            for request in requests:
                await writer.append([request])
        finally:
            self.free.put_nowait(writer)


class App:
    def __init__(self) -> None:
        config = from_environment()
        assert config.database_url is not None
        pool = open_pool(config.database_url, size=4, name="naive")
        one = intake_of(config, config.database_url, pool)
        self.intake = Naive(
            writers(config.database_url, WRITERS),
            one.answers,
            one.bodies,
            max_body_bytes=one.max_body_bytes,
            batch_max=one.batch_max,
        )

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
