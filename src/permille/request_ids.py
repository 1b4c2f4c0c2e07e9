"""The id of the request that is being answered: on its answer, in its errors, and on every line of the log about it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from itertools import count

HEADER = b"x-request-id"
_PROCESS = secrets.token_hex(8)
_numbers = count(1)
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")

current: ContextVar[str | None] = ContextVar("request_id", default=None)
"""None outside of requests."""


def begin(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id of a request that begins: what it brings in X-Request-Id, or one of ours."""
    name = given(headers) or new()
    current.set(name)
    return name


def given(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The id that a request brings, if it is well-formed."""
    found = dict(headers).get(HEADER)
    return None if found is None else well_formed(found)


def well_formed(value: bytes) -> str | None:
    """What a request brings as its id, if it is fine."""
    return value.decode() if _WELL_FORMED.fullmatch(value) else None


def new() -> str:
    """An id of ours."""
    return f"{_PROCESS}-{next(_numbers):x}"
