"""Is the process alive, and can it serve? Asked by load balancers, without a key."""

from __future__ import annotations

import asyncio

import psycopg
from starlette.requests import Request
from starlette.responses import Response

from permille.api.addresses import Route
from permille.api.http import json_response
from permille.database.connections import Pool, is_unavailable
from permille.database.readiness import OK, UNAVAILABLE, readiness

WAIT_SECONDS = 2.0
REMEMBERED_SECONDS = 1.0
LIVE = "/health/live"


class Readiness:
    """Looks at most once a second, however many ask."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._look: asyncio.Task[str] | None = None
        self._until = 0.0

    async def status(self) -> str:
        """OK, or what is in the way."""
        now = asyncio.get_running_loop().time()
        if self._look is None or (self._look.done() and now > self._until):
            self._look = asyncio.create_task(asyncio.to_thread(self._probe))
            self._until = now + REMEMBERED_SECONDS
        return await asyncio.shield(self._look)

    def _probe(self) -> str:
        try:
            with self._pool.connection(timeout=WAIT_SECONDS) as conn:
                return readiness(conn)
        except psycopg.Error as error:
            if not is_unavailable(error):
                raise
            return UNAVAILABLE


def is_alive() -> Response:
    """The answer of a process that answers at all."""
    return json_response({"status": OK})


def health_routes(pool: Pool) -> list[Route]:
    """GET /health/live: the process answers. GET /health/ready, and Lago's /health: 200 when it can serve, else 503 with why not."""
    looking = Readiness(pool)

    async def live(_request: Request) -> Response:
        return is_alive()

    async def ready(_request: Request) -> Response:
        status = await looking.status()
        return json_response({"status": status}, 200 if status == OK else 503)

    return [
        Route(LIVE, live, methods=["GET"]),
        Route("/health/ready", ready, methods=["GET"]),
        Route("/health", ready, methods=["GET"]),
    ]
