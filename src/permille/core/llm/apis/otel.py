"""The counts of OpenTelemetry's conventions for generative AI, as `core/llm/otlp` gathers them from a span."""

from __future__ import annotations

from dataclasses import replace

from permille.core.llm.apis.openai_responses import INPUT, OUTPUT
from permille.core.llm.parts import TokenType, UnreadableUsage
from permille.core.llm.table import Api, Count, ModelUsage, Obj, Rest, Total

_CACHES = (
    Count("input_tokens_details.cached_tokens", TokenType.CACHED_INPUT),
    Count("input_tokens_details.cache_write_tokens", TokenType.CACHE_WRITE),
)


def _never(_answer: Obj) -> bool:
    """Nothing is this by its marks: the sender names it."""
    return False


_MISSING = "the span has no usage: ask the provider for a stream's with stream_options.include_usage"


def _requests(_body: Obj, usage: Obj, model: str | None) -> list[ModelUsage]:
    """Raises UnreadableUsage for a call that was made and says nothing of what it used."""
    if not usage:
        raise UnreadableUsage("usage_missing", _MISSING)
    return [ModelUsage(model=model, usage=usage)]


OTEL = Api(
    name="otel",
    looks_like=_never,
    tables=((INPUT, OUTPUT), (replace(INPUT, inside=()), *_CACHES, OUTPUT)),
    total=Total(rest=Rest.OUTPUT),
    requests=_requests,
    missing=_MISSING,
)
"""Caches are inside the input; senders that have them beside it, as Anthropic does, are known by their total."""
