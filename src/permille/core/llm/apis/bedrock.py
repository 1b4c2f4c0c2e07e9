"""Bedrock's Converse: caches are beside the input. Neither model nor identity is in the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from permille.core.llm.parts import Tier, TokenType, UnreadableUsage
from permille.core.llm.table import TIERS, Api, Count, ModelUsage, Obj, Total, at, quantity

_LIVES = {"5m": "write_5m", "1h": "write_1h"}

_TABLE = (
    Count("inputTokens", TokenType.INPUT),
    Count("cacheReadInputTokens", TokenType.CACHED_INPUT),
    Count(
        "cacheWriteInputTokens",
        TokenType.CACHE_WRITE,
        inside=(
            Count("lives.write_5m", TokenType.CACHE_WRITE_5M),
            Count("lives.write_1h", TokenType.CACHE_WRITE_1H),
        ),
    ),
    Count("outputTokens", TokenType.OUTPUT),
)


def _requests(_body: Obj, usage: Obj, model: str | None) -> list[ModelUsage]:
    """The usage, with the list of cache writes by their life as fields."""
    lives: dict[str, Decimal] = {}
    for each in usage.get("cacheDetails") or ():
        name = _LIVES.get(str(at(each, "ttl")))
        if name is None:
            raise UnreadableUsage(
                "unknown_life", f"cacheDetails has a ttl that is not known: {at(each, 'ttl')}"
            )
        number = quantity(at(each, "inputTokens"), "cacheDetails.inputTokens") or Decimal(0)
        lives[name] = lives.get(name, Decimal(0)) + number
    return [ModelUsage(model=model, usage={**usage, "lives": lives})]


def _joined(events: Sequence[Obj]) -> Obj:
    """The usage of a stream is in its metadata event."""
    found: dict[str, Any] = {}
    for event in events:
        for name in ("modelId", "requestId", "ResponseMetadata"):
            if name in event:
                found[name] = event[name]
        if isinstance(event.get("metadata"), Mapping):
            found.update(event["metadata"])
    return found


BEDROCK = Api(
    name="bedrock",
    looks_like=lambda answer: any(
        at(answer, path) is not None for path in ("usage.inputTokens", "metadata.usage.inputTokens")
    ),
    tables=(_TABLE,),
    total=Total(path="totalTokens"),
    ignored=("cacheDetails", "lives"),
    model=("trace.promptRouter.invokedModelId", "modelId"),
    response_id=("requestId", "ResponseMetadata.RequestId"),
    tier=("serviceTier.type", "performanceConfig.latency"),
    tiers={**TIERS, "optimized": Tier.FAST},
    requests=_requests,
    join=_joined,
    missing="the stream has no metadata event",
)
