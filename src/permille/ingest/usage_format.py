"""A wire format of usage of language models: where it is sent to, how a body is read, and what its sender is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from permille.core.llm.call import DroppedSpans, PreparedCall, SentCall
from permille.core.llm.otlp.alike import AlikeSpan
from permille.core.llm.otlp.spans import Span
from permille.core.record import Record
from permille.ingest.planned_call import PaidCall, ShapedUsage


class CallBatch(Record, kw_only=True):
    """The usages of a request, in the order in which they were sent, each as `POST /api/v1/llm/usage` takes it."""

    usages: Sequence[Any]
    shaped: Sequence[ShapedUsage] | None = None
    """The same, where nobody had to read them for that."""
    is_dry_run: bool = False
    """Whether nothing is stored."""
    rejected: int = 0
    """How many of them its sender should look at, where the format can say so."""
    media_type: str = "application/json"
    """The answer's content type."""
    dropped: Sequence[DroppedSpans] = ()
    """What of a trace is not looked at further."""


def _none_alike(_body: bytes, _media_type: str) -> None:
    """Other formats have no spans."""


class UsageFormat(Record, kw_only=True):
    """`decode(body, media_type)` answers usages, or raises BadRequest or Invalid; `answer` is the body after the commit."""

    path: str
    decode: Callable[[bytes, str], CallBatch]
    calls: Callable[[Sequence[Any], datetime], list[SentCall]]
    """Usages as calls, all or none. Raises Invalid with errors by their index."""
    answer: Callable[[Sequence[PreparedCall | PaidCall], CallBatch], bytes]
    names_clients: bool = False
    """Whether its usages say by `client` which program watched them."""
    alike: Callable[[bytes, str], Sequence[AlikeSpan] | None] = _none_alike
    """The spans of a body, taken apart; None where they can't be."""
    spans: Callable[[bytes], Iterable[Span]] = lambda _body: ()
    """The same, as they are."""
