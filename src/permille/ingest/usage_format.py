"""A wire format of usage of language models: where it is sent to, how a body is read, and what its sender is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from permille.core.llm.call import DroppedSpans, PreparedCall, SentCall


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBatch:
    """The calls of a request, in the order in which they were sent."""

    calls: Sequence[SentCall]
    is_dry_run: bool = False
    """Whether nothing is stored."""
    rejected: int = 0
    """How many of them its sender should look at, where the format can say so."""
    media_type: str = "application/json"
    """The answer's content type."""
    dropped: Sequence[DroppedSpans] = ()
    """What of a trace is not looked at further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFormat:
    """`decode(body, now, media_type)` answers calls, or raises BadRequest or Invalid; `answer` is the body after the commit."""

    path: str
    decode: Callable[[bytes, datetime, str], CallBatch]
    answer: Callable[[Sequence[PreparedCall], CallBatch], bytes]
