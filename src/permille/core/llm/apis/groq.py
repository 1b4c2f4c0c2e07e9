"""Groq: a compound system's answer has the usage of each of its models, which replaces the sum."""

from __future__ import annotations

from collections.abc import Mapping

from permille.core.llm.apis.openai_chat import OPENAI_CHAT
from permille.core.llm.table import ModelUsage, Obj, at, text_at
from permille.core.record import replace


def _requests(body: Obj, usage: Obj, model: str | None) -> list[ModelUsage]:
    models = at(body, "usage_breakdown.models")
    found = [
        ModelUsage(model=text_at(each, ("model",)), usage=each["usage"])
        for each in models or ()
        if isinstance(each, Mapping) and isinstance(each.get("usage"), Mapping)
    ]
    return found or [ModelUsage(model=model, usage=usage)]


GROQ_CHAT = replace(
    OPENAI_CHAT,
    name="groq",
    usage=("usage", "x_groq.usage"),
    requests=_requests,
)
