"""Anthropic's messages, on every platform that serves them: caches are beside the input, thinking is in the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from permille.core.llm.parts import CallType, Metric, Tier, TokenType
from permille.core.llm.table import TIERS, Api, Count, Measure, ModelUsage, Obj, at, text_at

_TABLE = (
    Count("input_tokens", TokenType.INPUT),
    Count("cache_read_input_tokens", TokenType.CACHED_INPUT),
    Count(
        "cache_creation_input_tokens",
        TokenType.CACHE_WRITE,
        inside=(
            Count("cache_creation.ephemeral_5m_input_tokens", TokenType.CACHE_WRITE_5M),
            Count("cache_creation.ephemeral_1h_input_tokens", TokenType.CACHE_WRITE_1H),
        ),
    ),
    Count(
        "output_tokens",
        TokenType.OUTPUT,
        inside=(Count("output_tokens_details.thinking_tokens", TokenType.REASONING),),
    ),
)


SERVER_TOOLS = (
    Measure("server_tool_use.web_search_requests", Metric.CALLS, CallType.WEB_SEARCH),
    Measure("server_tool_use.web_fetch_requests", Metric.CALLS, CallType.WEB_FETCH),
)


def _looks_like(answer: Obj) -> bool:
    return (
        answer.get("type") in ("message", "message_start", "message_delta")
        or at(answer, "usage.cache_read_input_tokens") is not None
        or (at(answer, "usage.input_tokens") is not None and at(answer, "usage.total_tokens") is None)
    )


def _joined(events: Sequence[Obj]) -> Obj:
    """The message of message_start; what a message_delta says is cumulative and replaces it field by field."""
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    for event in events:
        if event.get("type") == "message_start" and isinstance(event.get("message"), Mapping):
            message = dict(event["message"])
            usage.update(message.get("usage") or {})
        elif event.get("type") == "message_delta" and isinstance(event.get("usage"), Mapping):
            said = {name: value for name, value in event["usage"].items() if value is not None}
            usage.update(said)
            message["complete"] = True
    return {**message, "usage": usage} if usage and message.pop("complete", False) else {}


def _requests(_body: Obj, usage: Obj, model: str | None) -> list[ModelUsage]:
    """The iterations, where there are any: compactions and advisors are in them and not in the message's own counts."""
    iterations = [each for each in usage.get("iterations") or () if isinstance(each, Mapping)]
    if not iterations:
        return [ModelUsage(model=model, usage=usage)]
    return [ModelUsage(model=text_at(each, ("model",)) or model, usage=each) for each in iterations]


ANTHROPIC = Api(
    name="anthropic",
    looks_like=_looks_like,
    tables=(_TABLE,),
    measures=SERVER_TOOLS,
    ignored=("iterations", "fallback_credit", "server_tool_use.tool_search_requests"),
    tier=("usage.speed", "usage.service_tier", "serviceTier"),
    tiers={**TIERS, "standard_only": Tier.STANDARD},
    region=("usage.inference_geo",),
    requests=_requests,
    join=_joined,
    missing="the stream was cut before its message_delta, which has the output",
)
