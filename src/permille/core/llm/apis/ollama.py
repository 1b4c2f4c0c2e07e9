"""Ollama's own API: the last object has the counts. The prompt's is absent when all of it was cached."""

from __future__ import annotations

from permille.core.llm.parts import TokenType
from permille.core.llm.table import Api, Count, Obj


def _looks_like(answer: Obj) -> bool:
    return "eval_count" in answer or "prompt_eval_count" in answer


OLLAMA = Api(
    name="ollama",
    looks_like=_looks_like,
    tables=((Count("prompt_eval_count", TokenType.INPUT), Count("eval_count", TokenType.OUTPUT)),),
    ignored=("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
    usage=("",),
    response_id=("response_id",),
)
