"""Transcriptions: by tokens or by seconds, one or the other."""

from __future__ import annotations

from collections.abc import Sequence

from permille.core.llm.parts import MeasureType, TokenType
from permille.core.llm.table import Api, ByField, Count, Obj, Total, at, last_values, seconds

_ENDS = ("transcript.text.done", "conversation.item.input_audio_transcription.completed")


def _looks_like(answer: Obj) -> bool:
    return at(answer, "usage.type") in ("tokens", "duration") or answer.get("type") in _ENDS


def _joined(chunks: Sequence[Obj]) -> Obj:
    return next((chunk for chunk in reversed(chunks) if chunk.get("type") in _ENDS), last_values(chunks))


OPENAI_AUDIO = Api(
    name="openai_audio",
    looks_like=_looks_like,
    tables=(
        (
            Count("input_tokens", TokenType.INPUT, modalities=ByField("input_token_details")),
            Count("output_tokens", TokenType.OUTPUT),
        ),
    ),
    total=Total(),
    measures=(seconds("seconds", MeasureType.AUDIO_INPUT),),
    response_id=("id", "item_id"),
    join=_joined,
    missing="the stream has no transcript.text.done",
)
