"""Images that OpenAI's models make, and videos."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from permille.core.llm.apis.openai_responses import INPUT, OUTPUT
from permille.core.llm.parts import MeasureType, Metric, UsagePart
from permille.core.llm.table import Api, Obj, Total, at, last_values, quantity

_ENDS = ("image_generation.completed", "image_edit.completed")


def _looks_like(answer: Obj) -> bool:
    has_images = isinstance(answer.get("data"), list) and at(answer, "usage.input_tokens") is not None
    return has_images or answer.get("type") in _ENDS


def _images(body: Obj, _usage: Obj) -> list[UsagePart]:
    made = body.get("data")
    number = len(made) if isinstance(made, list) else int(body.get("type") in _ENDS)
    part = UsagePart(metric=Metric.IMAGES, type=MeasureType.IMAGE, modality=None, quantity=Decimal(number))
    return [part] if number else []


def _joined(chunks: Sequence[Obj]) -> Obj:
    return next((chunk for chunk in reversed(chunks) if chunk.get("type") in _ENDS), last_values(chunks))


OPENAI_IMAGES = Api(
    name="openai_images",
    looks_like=_looks_like,
    tables=((INPUT, OUTPUT),),
    total=Total(),
    more_parts=_images,
    join=_joined,
    missing="the stream has no completed image",
)


def _seconds(body: Obj, _usage: Obj) -> list[UsagePart]:
    number = quantity(body.get("seconds"), "seconds") or Decimal(0)
    part = UsagePart(metric=Metric.SECONDS, type=MeasureType.VIDEO, modality=None, quantity=number)
    return [part] if number else []


OPENAI_VIDEO = Api(
    name="openai_video",
    looks_like=lambda answer: answer.get("object") == "video",
    usage=("",),
    more_parts=_seconds,
    ignored=("created_at", "completed_at", "expires_at", "progress", "seconds"),
)
