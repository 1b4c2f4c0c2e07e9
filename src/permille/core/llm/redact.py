"""What may be kept of an answer: identities, names and numbers. Prompts and answers are never among it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

IDS = frozenset(
    [
        "id",
        "response_id",
        "responseId",
        "requestId",
        "request_id",
        "message_id",
        "session_id",
        "item_id",
        "event_id",
        "custom_id",
        "RequestId",
    ]
)
"""Fields whose values are others in each answer."""

NAMES = IDS | frozenset(
    [
        "container_id",
        "object",
        "type",
        "status",
        "model",
        "modelId",
        "modelVersion",
        "model_name",
        "invokedModelId",
        "provider",
        "service_tier",
        "serviceTier",
        "tier",
        "trafficType",
        "traffic_type",
        "latency",
        "speed",
        "inference_geo",
        "ttl",
        "modality",
        "size",
        "quality",
        "created_at",
        "done",
        "seconds",
        "prompt_eval_count",
        "eval_count",
        "is_byok",
    ]
)
"""Fields that are kept where their value is a name or a number."""

NESTED = frozenset(
    [
        "response",
        "result",
        "message",
        "body",
        "metadata",
        "meta",
        "delta",
        "output",
        "action",
        "tools",
        "data",
        "trace",
        "promptRouter",
        "candidates",
        "groundingMetadata",
        "performanceConfig",
        "ResponseMetadata",
        "responseMetadata",
        "iterations",
        "models",
    ]
)
"""Fields that are looked into for such."""

COUNTS = frozenset(
    [
        "usage",
        "usageMetadata",
        "usage_metadata",
        "usage_info",
        "usage_breakdown",
        "tool_usage",
        "billed_units",
        "x_groq",
        "serviceTier",
        "guardrail",
    ]
)
"""Fields of which all numbers are kept."""

NAME_MAX = 256
NAME = re.compile(rf"[\w.:/@+,~-]{{1,{NAME_MAX}}}\Z")
LIST_MAX = 1_000


def kept(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer without its content. What is read from it is the same."""
    found: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, dict):
            if name in COUNTS:
                found[name] = counts_kept(value)
            elif name in NESTED:
                found[name] = kept(value)
        elif isinstance(value, list):
            if name in NESTED:
                found[name] = [kept(each) for each in value[:LIST_MAX] if isinstance(each, dict)]
            elif name == "webSearchQueries":
                found[name] = [True for _ in value[:LIST_MAX]]  # how many there were, not what was searched
        elif name in NAMES and _is_name(value):
            found[name] = value
    return found


def counts_kept(value: Mapping[str, Any]) -> dict[str, Any]:
    """What of an object of counts may be kept, however deep."""
    found: dict[str, Any] = {}
    for name, each in value.items():
        if len(name) > NAME_MAX or not _is_key(name):
            continue
        if type(each) is int:
            found[name] = each
        elif (count := _count(each)) is not None:
            found[name] = count
    return found


def _count(value: Any) -> Any:
    if isinstance(value, dict):
        return counts_kept(value)
    if isinstance(value, list):
        return [found for each in value[:LIST_MAX] if (found := _count(each)) is not None]
    return value if _is_name(value) else None


@lru_cache(maxsize=4_096)
def _is_key(name: str) -> bool:
    return bool(NAME.match(name))


def _is_name(value: Any) -> bool:
    return isinstance(value, bool | int | Decimal) or (isinstance(value, str) and bool(NAME.match(value)))
