"""Embeddings by OpenAI's shape: there is only input."""

from __future__ import annotations

from permille.core.llm.apis.openai_chat import PROMPT
from permille.core.llm.table import Api, Obj, Total, at


def _looks_like(answer: Obj) -> bool:
    return (
        answer.get("object") == "list"
        and at(answer, "usage.prompt_tokens") is not None
        and not at(answer, "usage.completion_tokens")
    )


EMBEDDINGS = Api(
    name="openai_embeddings",
    looks_like=_looks_like,
    tables=((PROMPT,),),
    total=Total(),
    ignored=("completion_tokens", "prompt_audio_seconds"),
)
