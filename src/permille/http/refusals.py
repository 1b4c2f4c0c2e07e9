"""Refusals as answers: Lago's error object, with a sentence and the name of the request."""

from __future__ import annotations

from typing import Any

from permille import request_ids
from permille.core.errors import BadRequest, Invalid, Refusal
from permille.http.words import message_of

STATUS_TEXT = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
STATUS_HEADERS = {
    401: {"www-authenticate": "Bearer"},
    415: {"accept-encoding": "gzip"},
    429: {"retry-after": "1"},
    503: {"retry-after": "1"},
}
"""Headers that every answer with the status has."""


def try_again() -> Refusal:
    """503: the database is not to be had, or all connections to it are in use."""
    return Refusal(status=503, code="try_again")


def cut_off() -> Refusal:
    """503: a statement took too long, or others were in its way."""
    return Refusal(status=503, code="took_too_long")


def error_body(status: int, message: str, **more: Any) -> dict[str, Any]:
    """Lago's error object (semantics-metering.md, appendix A), and beside it `message` and `request_id`."""
    body = {"status": status, "error": STATUS_TEXT[status], **more, "message": message}
    name = request_ids.current.get()
    return body if name is None else body | {"request_id": name}


def refusal_body(refusal: Refusal) -> dict[str, Any]:
    """What a refusal says, with the values that are allowed where they are a closed set."""
    more: dict[str, Any] = {}
    if isinstance(refusal, BadRequest):
        more["error"] = f"BadRequest: {refusal.reason}"
    elif refusal.code:
        more["code"] = refusal.code
    details = getattr(refusal, "errors", None)
    if details is not None:
        more["error_details"] = details
    if isinstance(refusal, Invalid) and refusal.allowed:
        more["allowed"] = refusal.allowed
    return error_body(refusal.status, message_of(refusal), **more)
