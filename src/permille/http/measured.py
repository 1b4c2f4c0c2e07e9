"""Around the application: each request is counted and timed by its route, and logged where lines are JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from permille import telemetry

log = logging.getLogger("permille.requests")

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
NO_ROUTE = "none"
CUT_OFF = 499
"""The status, as proxies write it, of a request whose client went away before its answer."""


class Measured:
    """Labels are the templates of routes, never what a client has made up. `fixed`: paths that are routes themselves."""

    def __init__(self, app: ASGIApp, *, fixed: Collection[str], logs_requests: bool) -> None:
        self.app = app
        self.fixed = frozenset(fixed)
        self.logs_requests = logs_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        telemetry.current.set(telemetry.Seen())
        status = CUT_OFF

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception:
            status = 500
            raise
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = self._route(scope)
        telemetry.requests.labels(method, route, str(status)).inc()
        telemetry.request_seconds.labels(method, route).observe(seconds)
        if self.logs_requests:
            fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
            log.info("%s %s %s", method, route, status, extra={"fields": fields})

    def _route(self, scope: Scope) -> str:
        route = scope.get("route")
        if route is not None:
            return getattr(route, "path", NO_ROUTE) or NO_ROUTE
        path = scope["path"].rstrip("/")
        return path if path in self.fixed else NO_ROUTE
