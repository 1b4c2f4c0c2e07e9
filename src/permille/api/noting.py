"""What the log of requests notes of a request: who sent what, and what came of it."""

from __future__ import annotations

import math
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from permille import request_ids
from permille.clock import system_now
from permille.core.api_key import ApiKey
from permille.core.api_log import shown
from permille.database.connections import encode_answer
from permille.ids import new_id
from permille.store.api_logs import LoggedRequest

PREFIX = "/api/v1"
BODY_MAX = 16 * 1024
"""Longer bodies are not kept, of requests and of refusals."""
TEXT_MAX = 255
PATH_MAX = 2_000


def logged(
    request: Request, known: ApiKey, *, status: int, answer: Response | None, began: float
) -> LoggedRequest:
    """The request as it is logged. `began` is by the performance counter."""
    now = system_now()
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.decode("ascii", "replace").removeprefix(PREFIX)
    query = request.scope["query_string"].decode("ascii", "replace")
    return LoggedRequest(
        id=new_id(now),
        organization_id=known.organization.id,
        api_key_id=known.id,
        request_id=request_ids.current.get() or "",
        method=request.method.lower(),
        path=(f"{path}?{query}" if query else path)[:PATH_MAX],
        status=status,
        client=request.headers.get("user-agent", "")[:TEXT_MAX],
        origin=str(request.base_url)[:TEXT_MAX],
        body=_sent(request, request.state.body),
        answer=_refused(answer),
        duration_ms=math.ceil((time.perf_counter() - began) * 1000),
        at=now,
    )


def _sent(request: Request, body: Any) -> str | None:
    """The body that is shown, as JSON."""
    length = request.headers.get("content-length", "")
    if body is None or not length.isdigit() or len(length) > 9 or int(length) > BODY_MAX:
        return None
    return encode_answer(shown(body)).decode()


def _refused(answer: Response | None) -> str | None:
    if answer is None or answer.status_code < 400 or len(answer.body) > BODY_MAX:
        return None
    return bytes(answer.body).decode() if answer.media_type == "application/json" else None
