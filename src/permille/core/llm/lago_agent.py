"""Lago's agent SDK in token mode: an event for each count of a call, of which some are inside others.

Nothing ties the events of a call together, and a batch may part them. So each event by itself adds its count where it
belongs and takes it off the count that contains it: what is added up comes out right in any order.
Facts: lago-agent-sdk 0.3.1, and what providers and gateways answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from permille.core.llm.parts import OWN_ID, Modality, TokenType, UsagePart
from permille.core.llm.table import Api, Obj, by_name_alone, quantity
from permille.core.record import Record

_OPENAI_SHAPED = frozenset(["databricks_gateway", "ramp_router"])
"""Gateways that answer in OpenAI's relations whatever provider they have asked."""
_INPUT_HAS_CACHES = frozenset(["openai", "azure", "gemini", "mistral", "workers-ai"])
_OUTPUT_HAS_REASONING = frozenset(["openai", "azure", "workers-ai"])


def _always(_provider: str, _api: str) -> bool:
    return True


def _input_has_caches(provider: str, api: str) -> bool:
    """Bedrock counts caches beside the input, whichever vendor's model it is."""
    return api in _OPENAI_SHAPED or (provider in _INPUT_HAS_CACHES and not _is_bedrock(api))


def _output_has_reasoning(provider: str, api: str) -> bool:
    return api in _OPENAI_SHAPED or provider in _OUTPUT_HAS_REASONING


def _is_bedrock(api: str) -> bool:
    return api.startswith("bedrock")


class _CodeRule(Record):
    """What the events of a code count, and which count contains that, where it does."""

    type: TokenType
    modality: Modality = Modality.TEXT
    inside: TokenType | None = None
    is_inside: Callable[[str, str], bool] = _always


_INPUT, _OUTPUT, _WRITE = TokenType.INPUT, TokenType.OUTPUT, TokenType.CACHE_WRITE
_RULES: Mapping[str, _CodeRule | None] = {
    "llm_input_tokens": _CodeRule(_INPUT),
    "llm_output_tokens": _CodeRule(_OUTPUT),
    "llm_cached_input_tokens": _CodeRule(TokenType.CACHED_INPUT, inside=_INPUT, is_inside=_input_has_caches),
    "llm_cache_creation_tokens": _CodeRule(_WRITE, inside=_INPUT, is_inside=_input_has_caches),
    "llm_cache_write_5m_tokens": _CodeRule(TokenType.CACHE_WRITE_5M, inside=_WRITE),
    "llm_cache_write_1h_tokens": _CodeRule(TokenType.CACHE_WRITE_1H, inside=_WRITE),
    "llm_reasoning_tokens": _CodeRule(TokenType.REASONING, inside=_OUTPUT, is_inside=_output_has_reasoning),
    "llm_image_input_tokens": _CodeRule(_INPUT, Modality.IMAGE, inside=_INPUT),
    "llm_audio_input_tokens": _CodeRule(_INPUT, Modality.AUDIO, inside=_INPUT),
    "llm_audio_output_tokens": _CodeRule(_OUTPUT, Modality.AUDIO, inside=_OUTPUT),
    "llm_tool_calls": None,
}
"""Tool calls are those that the application answers: no provider bills them."""

CODES = tuple(_RULES)
_OWN = ("value", "model", "provider", "api")


def usage_in_event(code: str, transaction_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a usage of `POST /api/v1/llm/usage`; the application's dimensions are its free properties."""
    provider, api = _text(properties.get("provider")), _text(properties.get("api"))
    usage = {
        "api": LAGO_AGENT.name,
        "provider": "aws" if _is_bedrock(api) else provider or "unknown",
        "model": properties.get("model"),
        "id": f"{OWN_ID}{transaction_id}",
        "usage": {"code": code, "value": properties.get("value"), "provider": provider, "api": api},
        "properties": {name: value for name, value in properties.items() if name not in _OWN},
    }
    return {name: value for name, value in usage.items() if value not in (None, "", {})}


def _parts(_body: Obj, usage: Obj) -> list[UsagePart]:
    rule, number = _RULES.get(str(usage.get("code"))), quantity(usage.get("value"), "value")
    if rule is None or not number:
        return []
    found = [UsagePart(type=rule.type, modality=rule.modality, quantity=number)]
    if rule.inside is not None and rule.is_inside(_text(usage.get("provider")), _text(usage.get("api"))):
        found.append(UsagePart(type=rule.inside, quantity=-number))
    return found


def _text(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


LAGO_AGENT = Api(
    name="lago_agent",
    looks_like=by_name_alone,
    more_parts=_parts,
    ignored=("value",),
    missing="the event has no `value`",
)
