"""A wire format of usage of language models: where it is sent to, how a body is read, and what its sender is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from permille.core.llm.call import DroppedSpans, PreparedCall, SentCall
from permille.core.record import Record
from permille.ingest.planned_call import PaidCall


class CallBatch(Record, kw_only=True):
    """The usages of a request, in the order in which they were sent, each as `POST /api/v1/llm/usage` takes it."""

    usages: Sequence[Any]
    is_dry_run: bool = False
    """Whether nothing is stored."""
    rejected: int = 0
    """How many of them its sender should look at, where the format can say so."""
    media_type: str = "application/json"
    """The answer's content type."""
    dropped: Sequence[DroppedSpans] = ()
    """What of a trace is not looked at further."""


class UsageFormat(Record, kw_only=True):
    """`decode(body, media_type)` answers usages, or raises BadRequest or Invalid; `answer` is the body after the commit."""

    path: str
    decode: Callable[[bytes, str], CallBatch]
    calls: Callable[[Sequence[Any], datetime], list[SentCall]]
    """Usages as calls, all or none. Raises Invalid with errors by their index."""
    answer: Callable[[Sequence[PreparedCall | PaidCall], CallBatch], bytes]
    names_clients: bool = False
    """Whether its usages say by `client` which program watched them."""
