"""OpenTelemetry's traces (OTLP over HTTP), in protobuf and in JSON: their spans of calls of models are usage.

Answers are ExportTraceServiceResponses in the sender's format. A call without usage is a rejected span for the sender, and
is kept aside here. Spans that are no calls are taken and dropped; nothing else of a span is ever kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from permille.core.errors import BadRequest
from permille.core.llm.call import PreparedCall
from permille.core.llm.otlp.calls import calls_in
from permille.core.llm.otlp.spans import Span, spans_in
from permille.ingest.decoders.llm_usage import call_in, problems
from permille.ingest.usage_format import CallBatch, UsageFormat

_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_PATHS = ("/v1/traces", "/otlp/v1/traces", "/api/public/otel/v1/traces")
_SHOWN = 5
"""Problems that are named in an answer."""

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.encode


def _read(body: bytes, now: datetime, media_type: str) -> CallBatch:
    """Raises BadRequest for a body that is no trace."""
    is_json = media_type == _JSON
    try:
        found = calls_in(_spans_of_json(body) if is_json else _spans_of_message(body))
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise BadRequest(f"the body is no trace of OTLP in {media_type or _PROTOBUF}: {error}") from error
    usages = [_cut({"provider": "unknown", **usage}) for usage in (*found.usages, *found.missing)]
    return CallBatch(
        calls=[call_in(usage, now) for usage in usages], media_type=_JSON if is_json else _PROTOBUF
    )


def _spans_of_json(body: bytes) -> Iterator[Span]:
    document = _decode(body)
    if not isinstance(document, dict):
        raise TypeError("an object is expected")
    return spans_in(document)


def _spans_of_message(body: bytes) -> Iterator[Span]:
    from permille.ingest.trace_messages import spans_in_message

    return spans_in_message(body)


def _cut(usage: dict[str, Any]) -> Mapping[str, Any]:
    """The usage without what could not be stored: a span can hold anything, and its call is to be counted."""
    found = problems(usage)
    return {name: value for name, value in usage.items() if name not in found} if found else usage


def _answer(batch: CallBatch, calls: Sequence[PreparedCall]) -> bytes:
    rejected = [
        call.problem.message for call in calls if call.problem and call.problem.code == "usage_missing"
    ]
    message = "; ".join(dict.fromkeys(rejected[:_SHOWN]))
    if batch.media_type == _JSON:
        partial = {"rejectedSpans": str(len(rejected)), "errorMessage": message}
        return _encode({"partialSuccess": partial} if rejected else {})
    from permille.ingest.trace_messages import answer_message

    return answer_message(len(rejected), message) if rejected else b""


TRACES = tuple(UsageFormat(path=path, decode=_read, answer=_answer) for path in _PATHS)
