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
    given = dict(headers).get(HEADER)
    is_fine = given is not None and _WELL_FORMED.fullmatch(given)
    name = given.decode() if given is not None and is_fine else f"{_PROCESS}-{next(_numbers):x}"
    current.set(name)
    return name
