"""Which spans are calls of a model: a rule for each program that sends spans, found by the scope's name.

A call is often in several spans: an agent's span sums up its calls, a framework's repeats the client's. A
child may come in another request than its parent, before or after it, so what counts is decided by the kind
of the span and never by the tree. Facts: each rule is what that program (in the version of 2026-11) sends.
"""

from collections.abc import Callable
from enum import Enum

from permille.core.llm.otlp.spans import Span

CALLS = frozenset(["chat", "text_completion", "completion", "generate_content", "embeddings", "embedding"])
_USAGE = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "gen_ai.usage.raw",
)


class SpanKind(Enum):
    """What a span is to billing."""

    CALL = "call"
    SUM = "sum"
    """Repeats what other spans say."""
    OTHER = "other"


Rule = Callable[[Span], SpanKind]


def kind_of(span: Span) -> SpanKind:
    """Whether this span is a call of a model, a sum of others, or no such thing."""
    for prefix, rule in _RULES:
        if span.scope.startswith(prefix):
            return rule(span)
    return _by_operation(span)


def _by_operation(span: Span) -> SpanKind:
    operation = span.attributes.get("gen_ai.operation.name") or span.attributes.get("llm.request.type")
    if operation is None:
        return SpanKind.CALL if any(name in span.attributes for name in _USAGE) else SpanKind.OTHER
    if operation in CALLS:
        return SpanKind.CALL
    counted = any(name in span.attributes for name in _USAGE) or _has_prefix(span, "gen_ai.aggregated_usage.")
    return SpanKind.SUM if counted else SpanKind.OTHER


def _logfire(span: Span) -> SpanKind:
    """A stream has two spans: that of the request has no usage, the log after it has."""
    has_usage = any(name in span.attributes for name in _USAGE)
    if not has_usage and span.attributes.get("logfire.span_type") != "log":
        return SpanKind.OTHER
    return _by_operation(span)


def _open_inference(span: Span) -> SpanKind:
    return (
        SpanKind.CALL
        if span.attributes.get("openinference.span.kind") in {"LLM", "EMBEDDING"}
        else SpanKind.OTHER
    )


def _langfuse(span: Span) -> SpanKind:
    calls = {"generation", "embedding"}
    return SpanKind.CALL if span.attributes.get("langfuse.observation.type") in calls else SpanKind.OTHER


def _vercel(span: Span) -> SpanKind:
    operation = str(span.attributes.get("ai.operationId") or span.name)
    if operation.endswith((".doGenerate", ".doStream", ".doEmbed")):
        return SpanKind.CALL
    return SpanKind.SUM if _has_prefix(span, "ai.usage.") else SpanKind.OTHER


def _has_prefix(span: Span, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in span.attributes)


_RULES: tuple[tuple[str, Rule], ...] = (
    ("logfire", _logfire),
    ("openinference", _open_inference),
    ("langfuse", _langfuse),
    ("ai", _vercel),
)
