"""DeepSeek: hits and misses of the cache make the prompt."""

from __future__ import annotations

from permille.core.llm.apis.openai_chat import COMPLETION, INFORMATIVE, OPENAI_CHAT, PROMPT
from permille.core.llm.parts import TokenType
from permille.core.llm.table import Count, Total
from permille.core.record import replace

DEEPSEEK_CHAT = replace(
    OPENAI_CHAT,
    name="deepseek",
    tables=(
        (
            replace(
                PROMPT,
                inside=(
                    Count(
                        ("prompt_cache_hit_tokens", "prompt_tokens_details.cached_tokens"),
                        TokenType.CACHED_INPUT,
                    ),
                ),
            ),
            COMPLETION,
        ),
    ),
    total=Total(),
    ignored=(*INFORMATIVE, "prompt_cache_miss_tokens"),
)
