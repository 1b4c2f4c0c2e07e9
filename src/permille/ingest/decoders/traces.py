"""OpenTelemetry's traces over HTTP, in protobuf and JSON: the spans that are calls of models are usage of them.

All other spans are taken and dropped, and so is what is not a name or a number in those that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from permille import accelerator
from permille.core.errors import BadRequest
from permille.core.llm.call import PreparedCall, SentCall
from permille.core.llm.otlp.alike import PREFIXES, USES, AlikeSpan
from permille.core.llm.otlp.calls import calls_in
from permille.core.llm.otlp.spans import Span, spans_in
from permille.ingest.decoders.llm_usage import call_of, problems
from permille.ingest.planned_call import PaidCall
from permille.ingest.usage_format import CallBatch, UsageFormat

PATHS = ("/v1/traces", "/otlp/v1/traces", "/api/public/otel/v1/traces")
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
WITHOUT_USAGE = (
    "Calls of models without usage can't be billed; they are kept under held usages."
    " For streams of OpenAI's API set stream_options.include_usage."
)


def read_spans(body: bytes, media_type: str) -> CallBatch:
    """The usages of a request. Raises BadRequest where it can't be read."""
    is_protobuf = media_type != JSON
    try:
        found = calls_in(_spans_of_message(body) if is_protobuf else spans_in(msgspec.json.decode(body)))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise BadRequest(f"this is no OTLP request: {error}") from error
    return CallBatch(
        usages=[*found.usages, *found.missing],
        rejected=len(found.missing),
        media_type=PROTOBUF if is_protobuf else JSON,
        dropped=found.dropped,
    )


def _spans_of_message(body: bytes) -> Iterable[Span]:
    """A server that gets no traces never loads protobuf, which is a tenth of a second of its start."""
    from permille.ingest.decoders.trace_messages import spans_in_message

    return spans_in_message(body)


def _calls(usages: Sequence[Any], now: datetime) -> list[SentCall]:
    return [_call(each, now) for each in usages]


def _call(usage: dict[str, Any], now: datetime) -> SentCall:
    """A call of a trace. What of a span can't be used is left out: no sender could mend it."""
    if found := problems(usage):
        wrong = {field.partition(".")[0] for field in found}
        usable = {name: value for name, value in usage.items() if name not in wrong}
        return call_of({"provider": "unknown", "usage": {}, **usable}, now, client=usage.get("client"))
    return call_of(usage, now, client=usage.get("client"))


def _answer(_counted: Sequence[PreparedCall | PaidCall], batch: CallBatch) -> bytes:
    if batch.media_type == JSON:
        rejected = {"rejectedSpans": str(batch.rejected), "errorMessage": WITHOUT_USAGE}
        return msgspec.json.encode({"partialSuccess": rejected} if batch.rejected else {})
    from permille.ingest.decoders.trace_messages import answer_message

    return answer_message(batch.rejected, WITHOUT_USAGE)


def _alike_spans(body: bytes, media_type: str) -> Sequence[AlikeSpan] | None:
    if media_type != PROTOBUF or not accelerator.IS_BUILT:
        return None
    found = accelerator.usual.alike_spans(body, USES, PREFIXES)
    return None if found is None else list(map(AlikeSpan._make, found))


TRACES = tuple(
    UsageFormat(
        path=path,
        decode=read_spans,
        calls=_calls,
        answer=_answer,
        names_clients=True,
        alike=_alike_spans,
        spans=_spans_of_message,
    )
    for path in PATHS
)
