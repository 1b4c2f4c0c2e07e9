"""What holds for every answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

ANSWER_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Answers that say nothing else about it have these."""


class SafeAnswers:
    """Around the whole application: no answer is kept or guessed at, and a client that goes away is no crash."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def answer(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                known = dict(headers)
                message["headers"] = [*headers, *(each for each in ANSWER_HEADERS if each[0] not in known)]
            return send(message)

        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            log.debug("A client went away before its request was whole")
