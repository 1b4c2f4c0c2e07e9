"""Mistral: OpenAI's shape with the cache in the prompt, audio by the second, documents by the page."""

from __future__ import annotations

from permille.core.llm.apis.openai_chat import COMPLETION, INFORMATIVE, PROMPT, looks_like
from permille.core.llm.parts import MeasureType, Metric, TokenType
from permille.core.llm.table import Api, Count, Measure, Rest, Total, at, seconds

MISTRAL_CHAT = Api(
    name="mistral",
    looks_like=looks_like,
    tables=((PROMPT, COMPLETION), (PROMPT, COMPLETION, Count("connector_tokens", TokenType.TOOL_INPUT))),
    total=Total(),
    ignored=(*INFORMATIVE, "connectors", "num_cached_tokens", "connector_tokens"),
)
MISTRAL_TRANSCRIPTION = Api(
    name="mistral_transcription",
    looks_like=lambda answer: bool(at(answer, "usage.prompt_audio_seconds")),
    tables=((PROMPT, COMPLETION),),
    total=Total(rest=Rest.WARNED),
    measures=(seconds("prompt_audio_seconds", MeasureType.AUDIO_INPUT),),
    ignored=("num_cached_tokens",),
)
MISTRAL_OCR = Api(
    name="mistral_ocr",
    looks_like=lambda answer: "usage_info" in answer,
    measures=(Measure("pages_processed", Metric.PAGES, MeasureType.DOCUMENT),),
    ignored=("doc_size_bytes",),
    usage=("usage_info",),
)
