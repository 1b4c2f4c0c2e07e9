"""OTLP in protobuf: the spans of a request, and the answer to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from permille import accelerator
from permille.core.llm.otlp.spans import Span

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_FAILED = 2


def spans_in_message(content: bytes) -> Iterable[Span]:
    """Read an ExportTraceServiceRequest. Raises ValueError where the bytes are none."""
    found = accelerator.usual.spans_of(content) if accelerator.IS_BUILT else None
    return spans_by_library(content) if found is None else map(Span._make, found)


def spans_by_library(content: bytes) -> Iterator[Span]:
    """As `spans_in_message`, which is defined by it."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(content)
    except DecodeError as problem:
        raise ValueError("the body is no ExportTraceServiceRequest") from problem
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    scope=scope_spans.scope.name,
                    ended_at=span.end_time_unix_nano,
                    failed=span.status.code == _FAILED,
                    attributes=resource | _attributes(span.attributes),
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    if text := value.string_value:  # as most are
        return text
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind is None or kind == "bytes_value":
        return None
    return getattr(value, kind)


def answer_message(rejected: int, message: str) -> bytes:
    """An ExportTraceServiceResponse: empty, or with the number of spans that were not taken and why."""
    if not rejected:
        return b""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()
