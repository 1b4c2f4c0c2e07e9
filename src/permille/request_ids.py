"""The id of the request that is being answered: on its answer, in its errors, and on every line of the log about it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Iterable
from contextvars import ContextVar
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_PROCESS = secrets.token_hex(8)
_numbers = count(1)
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")

current: ContextVar[str | None] = ContextVar("request_id", default=None)
"""None outside of requests."""


class RequestIds:
    """Around the whole application: a request brings its id in X-Request-Id, or gets one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = _given(scope["headers"]) or f"{_PROCESS}-{next(_numbers):x}"
        current.set(name)

        def answer(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, name.encode())]
            return send(message)

        await self.app(scope, receive, answer)


def _given(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    value = dict(headers).get(HEADER)
    return value.decode() if value is not None and _WELL_FORMED.fullmatch(value) else None
