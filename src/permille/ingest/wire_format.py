"""A wire format of events: where it is sent to, how a body is read, and what its sender is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from permille.core.contract.event_warning import EventWarning
from permille.core.errors import Invalid
from permille.core.record import Record
from permille.events.draft import Draft
from permille.events.log import Request

Warnings = Sequence[tuple[int, EventWarning]]
"""The index of an event in its request, and a warning about it."""


class WireFormat(Record, kw_only=True):
    """`decode(body, now, most)` answers drafts, or raises BadRequest or Invalid; `answer` is the body after the commit."""

    path: str
    media_type: str = ""
    """The content type that chooses it among the formats of its path; empty for the usual one."""
    is_batch: bool
    """Whether errors are by the index of their event."""
    decode: Callable[[bytes, datetime, int], list[Draft]]
    answer: Callable[[Request, Warnings | None], bytes]
    may_be_usual: bool = False
    """Whether writers read its usual bodies in one pass, and answer them as `answer` does."""


class Faulty(Invalid):
    """Events with errors, of one or of a batch. Lago still evaluates expressions before it answers.

    `evaluable` are those of the request that an expression can look at, by index; some of them have an error.
    """

    def __init__(self, errors: Mapping[str, Any], evaluable: Mapping[int, Draft], *, is_batch: bool) -> None:
        super().__init__(errors)
        self.evaluable = evaluable
        self.is_batch = is_batch
