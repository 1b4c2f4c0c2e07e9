"""Cohere: what is billed are the billed units; the tokens beside them have its own preamble in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from permille.core.llm.parts import CallType, MeasureType, Metric, Modality, TokenType, UsagePart
from permille.core.llm.table import Api, Count, Measure, Obj, at, quantity


def _images(_body: Obj, usage: Obj) -> list[UsagePart]:
    """Tokens of images, which are beside the input's."""
    number = quantity(at(usage, "billed_units.image_tokens"), "billed_units.image_tokens")
    return [UsagePart(type=TokenType.INPUT, modality=Modality.IMAGE, quantity=number)] if number else []


def _joined(events: Sequence[Obj]) -> Obj:
    """A chat's id is in its first event, its usage in its last."""
    found: dict[str, object] = {}
    for event in events:
        found.update({name: event[name] for name in ("id", "model") if event.get(name)})
        usage = at(event, "delta.usage")
        if isinstance(usage, Mapping):
            found["usage"] = usage
    return found


COHERE = Api(
    name="cohere",
    looks_like=lambda answer: any(
        at(answer, path) is not None
        for path in ("usage.billed_units", "meta.billed_units", "delta.usage.billed_units")
    ),
    tables=(
        (
            Count("billed_units.input_tokens", TokenType.INPUT),
            Count("billed_units.output_tokens", TokenType.OUTPUT),
        ),
    ),
    more_parts=_images,
    measures=(
        Measure("billed_units.search_units", Metric.CALLS, CallType.RERANK_SEARCH),
        Measure("billed_units.classifications", Metric.CALLS, CallType.CLASSIFICATION),
        Measure("billed_units.images", Metric.IMAGES, MeasureType.IMAGE),
        Measure("billed_units.pages", Metric.PAGES, MeasureType.DOCUMENT),
    ),
    ignored=("billed_units.image_tokens", "tokens", "cached_tokens", "api_version"),
    usage=("usage", "meta"),
    join=_joined,
    missing="the stream has no message-end with usage",
)
