"""The calls of models in a trace, as usages of the same form as `POST /api/v1/llm/usage` takes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from permille.core.llm.call import DroppedSpans
from permille.core.llm.otlp.attribution import metadata_of, names, payer, properties
from permille.core.llm.otlp.counts import cost_of, counts_of
from permille.core.llm.otlp.models import model_of, provider_of, response_id_of, tier_of
from permille.core.llm.otlp.senders import SpanKind, kind_of
from permille.core.llm.otlp.spans import Span

_NANOSECONDS = 1_000_000_000


@dataclass
class TracedCalls:
    """`usages` in the order of their spans; `missing` are calls without usage, in the same form.

    `skipped` are spans that repeat others: an index, and why. `dropped` are these and all that are no calls.
    """

    usages: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    dropped: Sequence[DroppedSpans] = ()


def calls_in(spans: Iterable[Span]) -> TracedCalls:
    """What is to be billed of these spans. A call without usage cost money and can't be billed, unless it failed."""
    every = list(spans)
    found = TracedCalls()
    dropped: Counter[tuple[str, str]] = Counter()
    unnamed = {(span.trace_id, span.span_id): span for span in every if not span.scope}
    for index, span in enumerate(every):
        kind = kind_of(span)
        if kind is SpanKind.SUM or (kind is SpanKind.CALL and _repeats_its_parent(span, unnamed)):
            found.skipped.append((index, f"{_operation(span)} is a sum of others"))
            dropped[span.scope, "span_repeats"] += 1
        elif kind is SpanKind.CALL:
            counts = counts_of(span)
            if counts is not None:
                found.usages.append(_usage(span, counts))
            elif not span.failed:
                found.missing.append(_usage(span, {"usage": {}, "api": "otel"}))
            else:
                dropped[span.scope, "call_failed"] += 1
        else:
            dropped[span.scope, "no_call"] += 1
    found.dropped = dropped_spans(dropped)
    return found


def dropped_spans(counts: Mapping[tuple[str, str], int]) -> list[DroppedSpans]:
    """By instrumentation and why."""
    return [
        DroppedSpans(client=scope, code=code, message=_WHY_DROPPED[code], count=count)
        for (scope, code), count in counts.items()
    ]


_WHY_DROPPED = {
    "span_repeats": "It sums up or repeats other spans, which are counted.",
    "call_failed": "The call failed and has no usage.",
    "no_call": "It is no call of a model.",
}


def _repeats_its_parent(span: Span, unnamed: Mapping[tuple[str, str], Span]) -> bool:
    """A router's attempts below the call itself: the programs without a scope of their own (OpenRouter)."""
    parent = None if span.scope else unnamed.get((span.trace_id, span.parent_id))
    return parent is not None and counts_of(parent) is not None


def _operation(span: Span) -> str:
    named = span.attributes.get("gen_ai.operation.name") or span.attributes.get("ai.operationId")
    return str(named or span.name)


def _usage(span: Span, counts: dict[str, Any]) -> dict[str, Any]:
    seconds, rest = divmod(span.ended_at, _NANOSECONDS)
    metadata = metadata_of(span)
    usage = {
        "provider": provider_of(span),
        "model": model_of(span),
        "id": response_id_of(span) or f"span:{span.trace_id}:{span.span_id}",
        "timestamp": f"{seconds}.{rest:09d}" if span.ended_at else None,
        "tier": tier_of(span),
        "cost": cost_of(span),
        "properties": properties(span, metadata),
        "payer_names": names(span, metadata),
        **counts,
        **payer(span, metadata),
        "client": span.scope,
    }
    return {name: value for name, value in usage.items() if value or name == "usage"}
