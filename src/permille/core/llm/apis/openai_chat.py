"""OpenAI's chat completions, and everything that has their shape."""

from __future__ import annotations

from permille.core.llm.parts import TokenType
from permille.core.llm.table import Api, ByField, Count, Obj, Rest, Total, at

PROMPT = Count(
    "prompt_tokens",
    TokenType.INPUT,
    inside=(
        Count(("prompt_tokens_details.cached_tokens", "cached_tokens"), TokenType.CACHED_INPUT),
        Count("prompt_tokens_details.cache_write_tokens", TokenType.CACHE_WRITE),
    ),
    modalities=ByField("prompt_tokens_details"),
)
REASONING = Count(("completion_tokens_details.reasoning_tokens", "reasoning_tokens"), TokenType.REASONING)
COMPLETION = Count(
    "completion_tokens",
    TokenType.OUTPUT,
    inside=(REASONING,),
    modalities=ByField("completion_tokens_details"),
)
INFORMATIVE = (
    "completion_tokens_details.accepted_prediction_tokens",
    "completion_tokens_details.rejected_prediction_tokens",
    "prompt_time",
    "completion_time",
    "queue_time",
    "total_time",
)
"""Predicted tokens are in the completion, accepted or not; times are no counts."""


def looks_like(answer: Obj) -> bool:
    """Whether an answer, or a chunk of its stream, has the shape of a chat completion."""
    return (
        at(answer, "usage.prompt_tokens") is not None
        or at(answer, "usage.completion_tokens") is not None
        or answer.get("object") in ("chat.completion", "chat.completion.chunk", "text_completion")
    )


OPENAI_CHAT = Api(
    name="openai_chat",
    looks_like=looks_like,
    tables=((PROMPT, COMPLETION),),
    total=Total(rest=Rest.OUTPUT),
    ignored=INFORMATIVE,
    missing="ask the provider for it with stream_options.include_usage",
)
