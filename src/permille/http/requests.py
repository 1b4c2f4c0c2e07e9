"""What holds for every request: it has an id, its answer is safe to show, and it is counted and timed by its route.

One layer around the whole application, because each layer costs every event some microseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from permille import request_ids, telemetry
from permille.http.refusals import STATUS_HEADERS

log = logging.getLogger("permille.requests")

ANSWER_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Answers that say nothing else about it have these: they are neither kept nor guessed at."""
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
NO_ROUTE = "none"
AT_ONCE = "permille.answer_at_once"
"""In the scope: what writes a whole answer at once, `(status, headers, body)`, and says whether it could."""
JSON_HEAD = b"".join(
    b"%s: %s\r\n" % each for each in ((b"content-type", b"application/json"), *ANSWER_HEADERS)
)
"""Lines of every answer in JSON."""
CUT_OFF = 499
"""The status, as proxies write it, of a request whose client went away before its answer: that is no crash."""


class Requests:
    """Labels are the templates of routes, never what a client has made up. `fixed`: paths that are routes themselves."""

    def __init__(self, app: ASGIApp, *, fixed: Collection[str] = (), logs_requests: bool = False) -> None:
        self.app = app
        self.fixed = frozenset(fixed)
        self.logs_requests = logs_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        name = request_ids.begin(scope["headers"])
        telemetry.current.set(telemetry.Seen())
        status = CUT_OFF

        def answer(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (request_ids.HEADER, name.encode())]
                known = dict(headers)
                headers += [each for each in ANSWER_HEADERS if each[0] not in known]
                message["headers"] = headers
            return send(message)

        def answer_at_once(code: int, body: bytes) -> bool:
            nonlocal status
            head = b"%s%s: %s\r\n" % (JSON_HEAD, request_ids.HEADER, name.encode())
            if code in STATUS_HEADERS or not write(code, head, body):
                return False
            status = code
            return True

        write: Callable[[int, bytes, bytes], bool] = scope.get(AT_ONCE, _not_at_once)
        scope[AT_ONCE] = answer_at_once
        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            log.debug("A client went away before its request was whole")
        except Exception:
            status = 500
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._note(method, self._route(scope), status, time.perf_counter() - began)

    def note_quick(self, route: str, status: int, seconds: float, seen: telemetry.Seen, name: str) -> None:
        """A POST was answered without passing through here."""
        if not self.logs_requests:
            telemetry.answers.note("POST", route, status, seconds)
            return
        context = Context()
        context.run(request_ids.current.set, name)
        context.run(telemetry.current.set, seen)
        context.run(self._note, "POST", route, status, seconds)

    def _note(self, method: str, route: str, status: int, seconds: float) -> None:
        telemetry.answers.note(method, route, status, seconds)
        if self.logs_requests:
            fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
            log.info("%s %s %s", method, route, status, extra={"fields": fields})

    def _route(self, scope: Scope) -> str:
        route = scope.get("route")
        if route is not None:
            return getattr(route, "path", NO_ROUTE) or NO_ROUTE
        path = scope["path"].rstrip("/")
        return path if path in self.fixed else NO_ROUTE


def _not_at_once(_code: int, _head: bytes, _body: bytes) -> bool:
    return False
