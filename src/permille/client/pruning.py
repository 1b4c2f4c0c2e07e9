"""What of a provider's answer is kept: ids, models, counts. Prompts and answers never are.

Allowed names are listed; all others are dropped, so that a field that a provider adds tomorrow is not kept
by mistake. Inside an object of counts every number is kept, so that a new count is seen by the server, but
of its texts only short ones.
"""

from typing import Any

_NAMES = frozenset(
    [
        *("id", "object", "type", "model", "modelVersion", "responseId", "created", "created_at"),
        *("service_tier", "serviceTier", "provider", "duration", "size", "quality", "cost"),
    ]
)
_COUNTS = frozenset(
    ["usage", "usageMetadata", "usage_metadata", "usage_breakdown", "tool_usage", "meta", "x_groq"]
)
_INSIDE = frozenset(["response", "message"])
_SHORT = 128


def prune(answer: dict[str, Any]) -> dict[str, Any]:
    """What of one answer, or of one chunk of a stream, the bill needs."""
    kept: dict[str, Any] = {}
    for name, value in answer.items():
        if name in _COUNTS:
            kept[name] = _counts(value)
        elif name in _NAMES and _short(value):
            kept[name] = value
        elif name in _INSIDE and isinstance(value, dict):
            kept[name] = prune(value)
    if isinstance(output := answer.get("output"), list):
        kept["output"] = [_tool_call(item) for item in output if _is_tool_call(item)]
    if isinstance(data := answer.get("data"), list) and any(_is_picture(item) for item in data):
        kept["data"] = [{} for item in data if _is_picture(item)]
    if isinstance(candidates := answer.get("candidates"), list):
        kept["candidates"] = [_searches(candidate) for candidate in candidates]
    return kept


def has_usage(chunk: dict[str, Any]) -> bool:
    """Whether a pruned chunk has counts in it."""
    if any(chunk.get(name) for name in ("usage", "usageMetadata", "usage_metadata")):
        return True
    return any(has_usage(chunk[name]) for name in _INSIDE if isinstance(chunk.get(name), dict))


def _short(value: object) -> bool:
    return not isinstance(value, dict | list) and (not isinstance(value, str) or len(value) <= _SHORT)


def _counts(value: object) -> object:
    if isinstance(value, dict):
        return {name: _counts(inner) for name, inner in value.items() if not _long_text(inner)}
    if isinstance(value, list):
        return [_counts(inner) for inner in value if not _long_text(inner)]
    return value


def _long_text(value: object) -> bool:
    return isinstance(value, str) and len(value) > _SHORT


def _is_picture(item: object) -> bool:
    return isinstance(item, dict) and ("b64_json" in item or "url" in item)


def _is_tool_call(item: object) -> bool:
    return isinstance(item, dict) and str(item.get("type", "")).endswith("_call")


def _tool_call(item: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: item[name] for name in ("type", "id", "status", "container_id") if _short(item.get(name, []))
    }
    if isinstance(action := item.get("action"), dict):
        kept["action"] = {"type": action.get("type")}
    if "usage" in item:
        kept["usage"] = _counts(item["usage"])
    return kept


def _searches(candidate: object) -> dict[str, Any]:
    """How many searches grounded an answer, without what was searched for."""
    grounding = candidate.get("groundingMetadata") if isinstance(candidate, dict) else None
    queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
    if not isinstance(queries, list):
        return {}
    return {"groundingMetadata": {"webSearchQueries": ["" for _ in queries]}}
