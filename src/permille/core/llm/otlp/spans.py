"""Spans of OpenTelemetry traces as plain values, read from the JSON form of an OTLP request."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_FAILED = (2, "STATUS_CODE_ERROR")


class Span(NamedTuple):
    """`attributes` has those of the resource too, where the span does not say otherwise. Ids are hexadecimal.

    `ended_at` is in nanoseconds since 1970, 0 where the sender did not say. `failed` is the sender's word.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    scope: str
    ended_at: int
    failed: bool
    attributes: Mapping[str, Any]


def spans_in(document: Mapping[str, Any]) -> Iterator[Span]:
    """Read an ExportTraceServiceRequest in JSON. Raises TypeError, ValueError, KeyError, AttributeError for other shapes."""
    for resource_spans in _list(document, "resourceSpans"):
        resource = attributes_in(_list(resource_spans.get("resource") or {}, "attributes"))
        for scope_spans in _list(resource_spans, "scopeSpans"):
            scope = str((scope_spans.get("scope") or {}).get("name") or "")
            for span in _list(scope_spans, "spans"):
                yield Span(
                    trace_id=str(span.get("traceId") or "").lower(),
                    span_id=str(span.get("spanId") or "").lower(),
                    parent_id=str(span.get("parentSpanId") or "").lower(),
                    name=str(span.get("name") or ""),
                    scope=scope,
                    ended_at=int(span.get("endTimeUnixNano") or 0),
                    failed=(span.get("status") or {}).get("code") in _FAILED,
                    attributes=resource | attributes_in(_list(span, "attributes")),
                )


def attributes_in(pairs: list[Any]) -> dict[str, Any]:
    """Attributes by key; a kind of value that does not exist is None."""
    return {str(pair["key"]): _value(pair.get("value") or {}) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        if kind == "intValue":
            return int(content)
        if kind in {"stringValue", "boolValue", "doubleValue"}:
            return content
        if kind == "arrayValue":
            return [_value(item) for item in _list(content, "values")]
        if kind == "kvlistValue":
            return attributes_in(_list(content, "values"))
    return None


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    values = holder.get(name) or []
    if not isinstance(values, list):
        raise TypeError(f"{name} must be a list")
    return values
