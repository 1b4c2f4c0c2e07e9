"""The usage object of Vercel's AI SDK, whichever provider it is of. With the provider's own beside it, that one counts."""

from __future__ import annotations

from permille.core.llm.parts import TokenType
from permille.core.llm.table import Api, Count, Total, has_any

AI_SDK = Api(
    name="ai_sdk",
    looks_like=lambda answer: has_any(answer, ("usage.inputTokenDetails", "usage.outputTokenDetails")),
    tables=(
        (
            Count(
                "inputTokens",
                TokenType.INPUT,
                inside=(
                    Count(("inputTokenDetails.cacheReadTokens", "cachedInputTokens"), TokenType.CACHED_INPUT),
                    Count("inputTokenDetails.cacheWriteTokens", TokenType.CACHE_WRITE),
                ),
            ),
            Count(
                "outputTokens",
                TokenType.OUTPUT,
                inside=(
                    Count(("outputTokenDetails.reasoningTokens", "reasoningTokens"), TokenType.REASONING),
                ),
            ),
        ),
    ),
    total=Total(path="totalTokens"),
    ignored=("inputTokenDetails.noCacheTokens", "outputTokenDetails.textTokens"),
    model=("response.modelId", "modelId", "model"),
    response_id=("response.id", "id"),
)
