"""What a call used, by its span: the provider's own object if there is one, else the convention's attributes."""

import json
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

from permille.core.llm.otlp.spans import Span

_RAW = ("gen_ai.usage.raw", "langfuse.observation.usage_details")
_METADATA = "ai.response.providerMetadata"
OBJECTS = frozenset([*_RAW, _METADATA])
"""Attributes that are objects in JSON."""


def counts_of(span: Span) -> dict[str, Any] | None:
    """The provider's own object where a span carries it, else the convention's attributes; None where it has neither."""
    for name in _RAW:
        raw = _json(span.attributes.get(name))
        if raw:
            return {"usage": raw, "api": _shape(raw)}
    anthropic = _json(span.attributes.get(_METADATA)).get("anthropic")
    if isinstance(anthropic, dict) and isinstance(anthropic.get("usage"), dict):
        return {"usage": anthropic["usage"], "api": "anthropic"}
    summary = _summary(span)
    return {"usage": summary, "api": "otel"} if summary else None


def _shape(raw: Mapping[str, Any]) -> str:
    if "cache_read_input_tokens" in raw or "cache_creation_input_tokens" in raw:
        return "anthropic"
    if "promptTokenCount" in raw or "prompt_token_count" in raw:
        return "google"
    return (
        "openai_chat"
        if "prompt_tokens" in raw
        else "openai_responses"
        if "input_tokens_details" in raw
        else "otel"
    )


_SUMMARY: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "input_tokens",
        (
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.token_count.prompt",
            "ai.usage.inputTokens",
            "ai.usage.promptTokens",
            "ai.usage.tokens",
        ),
    ),
    (
        "output_tokens",
        (
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
            "ai.usage.outputTokens",
            "ai.usage.completionTokens",
        ),
    ),
    (
        "total_tokens",
        (
            "gen_ai.usage.total_tokens",
            "llm.usage.total_tokens",
            "llm.token_count.total",
            "ai.usage.totalTokens",
        ),
    ),
)
_INPUT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "cached_tokens",
        (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.details.cache_read_tokens",
            "llm.token_count.prompt_details.cache_read",
            "ai.usage.inputTokenDetails.cacheReadTokens",
            "ai.usage.cachedInputTokens",
        ),
    ),
    (
        "cache_write_tokens",
        (
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.details.cache_write_tokens",
            "llm.token_count.prompt_details.cache_write",
            "ai.usage.inputTokenDetails.cacheWriteTokens",
        ),
    ),
    ("audio_tokens", ("gen_ai.usage.details.input_audio_tokens", "llm.token_count.prompt_details.audio")),
)
_OUTPUT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "reasoning_tokens",
        (
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
            "ai.usage.outputTokenDetails.reasoningTokens",
            "ai.usage.reasoningTokens",
        ),
    ),
    (
        "audio_tokens",
        ("gen_ai.usage.details.output_audio_tokens", "llm.token_count.completion_details.audio"),
    ),
)
COUNTS = frozenset(name for table in (_SUMMARY, _INPUT, _OUTPUT) for _, names in table for name in names)
"""Attributes that are numbers."""


def _summary(span: Span) -> dict[str, Any]:
    """The convention's attributes of all its generations, in the shape of OpenAI's Responses: details are inside totals."""
    counts: dict[str, Any] = _read(span, _SUMMARY)
    if not counts.keys() & {"input_tokens", "output_tokens"}:
        return {}
    if details := _read(span, _INPUT):
        counts["input_tokens_details"] = details
    if details := _read(span, _OUTPUT):
        counts["output_tokens_details"] = details
    return counts


def _read(span: Span, names: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for ours, theirs in names:
        value = next((span.attributes[name] for name in theirs if name in span.attributes), None)
        if isinstance(value, int) and not isinstance(value, bool):
            found[ours] = value
    return found


def cost_of(span: Span) -> str | None:
    """What the provider takes for the call, in USD, if the sender says it."""
    for name in ("operation.cost", "gen_ai.usage.cost", "litellm.cost.total", "llm.cost.total"):
        value = span.attributes.get(name)
        if value is not None and not isinstance(value, bool) and isinstance(value, Real | Decimal):
            return format(Decimal(str(value)), "f")
    return None


def _json(value: Any) -> dict[str, Any]:
    """The object that a text attribute holds; empty where it holds none."""
    if not isinstance(value, str):
        return value if isinstance(value, dict) else {}
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
