"""Spans that are read alike: they differ in counts, ids, texts that their sender chose and instants alone.

The reader (calls.py) stays the only definition: it reads a span with other values in the places of what may differ, and
what it makes of them holds for all spans with this key, since everything else that it asked for is in the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple, NoReturn, cast

from permille.core.llm.otlp.attribution import METADATA, TEXTS
from permille.core.llm.otlp.calls import TracedCalls, calls_in
from permille.core.llm.otlp.counts import COUNTS, OBJECTS
from permille.core.llm.otlp.spans import Span

_NAME, _COUNT, _ID, _FREE, _OBJECT, _PRESENT = range(6)
"""A text or a bool of which there are few; a number; an id; a text of the sender's; an object in JSON; the name alone."""

USES: dict[str, int] = {
    **dict.fromkeys(COUNTS, _COUNT),
    **dict.fromkeys(OBJECTS, _OBJECT),
    **dict.fromkeys(TEXTS, _FREE),
    **dict.fromkeys(["gen_ai.response.id", "ai.response.id", "llm.response.id"], _ID),
    **dict.fromkeys(
        [
            "ai.model.id",
            "ai.model.provider",
            "ai.operationId",
            "ai.response.model",
            "gen_ai.openai.response.service_tier",
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "gen_ai.system",
            "gen_ai.usage.cost",
            "langfuse.observation.model.name",
            "langfuse.observation.type",
            "litellm.cost.total",
            "llm.cost.total",
            "llm.model_name",
            "llm.provider",
            "llm.request.type",
            "llm.system",
            "logfire.span_type",
            "openai.response.service_tier",
            "openinference.span.kind",
            "operation.cost",
            "service.name",
        ],
        _NAME,
    ),
}
"""What an attribute is to the reader. A span of which it asks for another one has nothing alike."""
PREFIXES: dict[str, int] = {
    **dict.fromkeys(METADATA, _FREE),
    "ai.usage.": _PRESENT,
    "gen_ai.aggregated_usage.": _PRESENT,
}
"""Likewise by how a name begins."""


class AlikeSpan(NamedTuple):
    """A span taken apart, by accelerator/alike.h. `counts` and `texts` are in the order of the span."""

    key: bytes
    counts: list[int]
    texts: list[str]
    own_id: str
    """What it is known by without an id of a response."""
    ended_at: int
    """Nanoseconds since 1970."""


class _Unalike(Exception):  # noqa: N818 -- it is a finding, not a fault
    """The reader asked for what is not in the key."""


def read_alike(span: Span) -> TracedCalls | None:
    """What the reader makes of all spans with the key of this one, which was taken apart before.

    Each count is its place + 1 there, each text `text_in_place`, the own id OWN_ID. None where more than the key decides it.
    """
    if not span.scope:  # then it matters what is sent beside it
        return None
    try:
        return calls_in([_traced(span)])
    except (_Unalike, AttributeError, TypeError, ValueError, RecursionError):
        return None


def text_in_place(place: int) -> str:
    """What is read as a text, or as an id, in its stead."""
    return f"text-{place}"


OWN_ID = "span:trace:span"


def _traced(span: Span) -> Span:
    counts, texts = count(1), count()
    attributes = _Known()
    for name, value in span.attributes.items():
        use = use_of(name)
        if use in (_COUNT, _OBJECT):
            attributes[name] = _counted(value if use == _COUNT else json.loads(value), counts)
        elif use in (_ID, _FREE):
            attributes[name] = text_in_place(next(texts))
        elif use is not None:
            attributes[name] = value if use == _NAME else None
    return span._replace(
        trace_id="trace", span_id="span", parent_id="", name=cast("str", _Unread()), attributes=attributes
    )


def _counted(value: Any, counts: Iterator[int]) -> Any:
    if isinstance(value, dict):
        return {name: _counted(each, counts) for name, each in value.items()}
    if isinstance(value, list):
        return [_counted(each, counts) for each in value]
    return next(counts) if type(value) is int else value


def use_of(name: str) -> int | None:
    """What an attribute is to the reader, None where it is nothing."""
    return USES.get(name, next((use for begin, use in PREFIXES.items() if name.startswith(begin)), None))


class _Known(dict[str, Any]):
    """Attributes that are in the key. None of their names may be asked for whose value is not in it."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(_in_key(name), default)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(_in_key(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_in_key(str(name)))


def _in_key(name: str) -> str:
    if use_of(name) in (None, _PRESENT):
        raise _Unalike
    return name


class _Unread:
    """The name of a span, which is in no key."""

    def __str__(self) -> NoReturn:
        raise _Unalike
