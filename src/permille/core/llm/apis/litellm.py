"""LiteLLM's usage object, which has OpenAI's convention for all providers, with the lives of cache writes.

Its callbacks for Lago and OpenMeter send the totals alone, and nobody says who served the call.
"""

from __future__ import annotations

from decimal import Decimal

from permille.core.llm.apis.anthropic import SERVER_TOOLS
from permille.core.llm.apis.openai_chat import COMPLETION, INFORMATIVE, OPENAI_CHAT, PROMPT
from permille.core.llm.parts import TokenType
from permille.core.llm.table import ByField, Count, Obj, by_name_alone, quantity
from permille.core.record import replace


def _modalities(base: str) -> ByField:
    """Its text tokens are those of the request that were not cached: they are no modality of the whole."""
    return ByField(base, {name: f"{name}_tokens" for name in ("audio", "image", "video")})


_WRITTEN = "prompt_tokens_details.cache_creation_token_details.ephemeral_"
_CACHE_WRITE = Count(
    (
        "prompt_tokens_details.cache_creation_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "cache_creation_input_tokens",
    ),
    TokenType.CACHE_WRITE,
    inside=(
        Count(f"{_WRITTEN}5m_input_tokens", TokenType.CACHE_WRITE_5M),
        Count(f"{_WRITTEN}30m_input_tokens", TokenType.CACHE_WRITE_30M),
        Count(f"{_WRITTEN}1h_input_tokens", TokenType.CACHE_WRITE_1H),
        Count(f"{_WRITTEN}12h_input_tokens", TokenType.CACHE_WRITE_12H),
    ),
)
_CACHED = Count(("prompt_tokens_details.cached_tokens", "cache_read_input_tokens"), TokenType.CACHED_INPUT)


def _cost(_body: Obj, usage: Obj) -> Decimal | None:
    return quantity(usage.get("response_cost"), "response_cost")


LITELLM = replace(
    OPENAI_CHAT,
    name="litellm",
    looks_like=by_name_alone,
    tables=(
        (
            replace(PROMPT, inside=(_CACHED, _CACHE_WRITE), modalities=_modalities("prompt_tokens_details")),
            replace(COMPLETION, modalities=_modalities("completion_tokens_details")),
        ),
    ),
    measures=SERVER_TOOLS,
    ignored=(
        *INFORMATIVE,
        "prompt_tokens_details.text_tokens",
        "completion_tokens_details.text_tokens",
        "response_cost",
    ),
    cost=_cost,
)

LITELLM_EVENT = replace(LITELLM, name="litellm_event", missing="the event has a model and no tokens")
"""What its callbacks for Lago and OpenMeter send."""
