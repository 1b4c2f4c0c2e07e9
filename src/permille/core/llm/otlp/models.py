"""Who served a call, which model, at which tier, and the response's id, from the attributes of its span."""

from permille.core.llm.model_name import PROVIDERS, provider_name, provider_of_model
from permille.core.llm.otlp.spans import Span


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
    """The id that the provider gave to its answer."""
    return _first(span, "gen_ai.response.id", "ai.response.id", "llm.response.id")


def tier_of(span: Span) -> str | None:
    """As it was served."""
    return _first(span, "openai.response.service_tier", "gen_ai.openai.response.service_tier")


def _first(span: Span, *names: str) -> str | None:
    values = (span.attributes.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)
