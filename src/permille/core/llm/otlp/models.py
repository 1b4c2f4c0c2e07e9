"""Who served a call, which model, at which tier, and the response's id, from the attributes of its span."""

import json
from typing import Any

from permille.core.llm.model_name import PROVIDERS, provider_name, provider_of_model
from permille.core.llm.otlp.spans import Span

_LONGEST = 200


def provider_of(span: Span) -> str | None:
    """The provider that a span names, in our words; else the one that is known for its model."""
    if span.attributes.get("service.name") == "openrouter":
        return "openrouter"
    named = _first(
        span, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"
    )
    if named:
        lower = named.lower()
        return provider_name(lower if lower in PROVIDERS else lower.partition(".")[0])
    return provider_of_model(model_of(span) or "")


def model_of(span: Span) -> str | None:
    """The model that answered, else the one that was asked for."""
    return _first(
        span,
        "gen_ai.response.model",
        "ai.response.model",
        "llm.model_name",
        "langfuse.observation.model.name",
        "gen_ai.request.model",
        "ai.model.id",
    )


def response_id_of(span: Span) -> str | None:
    """The id that the provider gave to its answer. OpenInference has it in the whole answer alone."""
    found = _first(span, "gen_ai.response.id", "ai.response.id", "llm.response.id")
    return found or _text_of(_answer(span).get("id"))


def tier_of(span: Span) -> str | None:
    """As it was served."""
    found = _first(span, "openai.response.service_tier", "gen_ai.openai.response.service_tier")
    return found or _text_of(_answer(span).get("service_tier"))


def _answer(span: Span) -> dict[str, Any]:
    """The answer that a span of OpenInference carries, of which nothing but names is read; empty where it carries none."""
    if not span.scope.startswith("openinference"):
        return {}
    try:
        found = json.loads(str(span.attributes.get("output.value")))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text_of(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST else None


def _first(span: Span, *names: str) -> str | None:
    for name in names:
        value = span.attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return None
