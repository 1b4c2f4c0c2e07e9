"""What may be kept of an answer: identities, names and numbers. Prompts and answers are never among it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_NAMES = frozenset(
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
        "RequestId",
    ]
)
"""Fields that are kept where their value is a name or a number."""

_NESTED = frozenset(
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

_COUNTS = frozenset(
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

_NAME = re.compile(r"[\w.:/@+,~-]{1,256}\Z")
_LIST_MAX = 1_000


def kept(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer without its content. What is read from it is the same."""
    found: dict[str, Any] = {}
    for name, value in answer.items():
        if name in _COUNTS and isinstance(value, dict):
            found[name] = _counts(value)
        elif name in _NESTED and isinstance(value, dict):
            found[name] = kept(value)
        elif name in _NESTED and isinstance(value, list):
            found[name] = [kept(each) for each in value[:_LIST_MAX] if isinstance(each, dict)]
        elif name in _NAMES and _is_name(value):
            found[name] = value
        elif name == "webSearchQueries" and isinstance(value, list):
            found[name] = [True for _ in value[:_LIST_MAX]]  # how many there were, not what was searched for
    return found


def _counts(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = {name: _counts(each) for name, each in value.items() if _NAME.match(name)}
        return {name: each for name, each in pairs.items() if each is not None}
    if isinstance(value, list):
        return [found for each in value[:_LIST_MAX] if (found := _counts(each)) is not None]
    return value if _is_name(value) else None


def _is_name(value: Any) -> bool:
    return isinstance(value, bool | int | Decimal) or (isinstance(value, str) and bool(_NAME.match(value)))
