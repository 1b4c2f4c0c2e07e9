"""The accelerator says of an OTLP request in protobuf what protobuf's own library says, or leaves it to that."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from permille import accelerator
from permille.core.llm.otlp.spans import Span
from permille.ingest.decoders.trace_messages import spans_by_library, spans_in_message

pytestmark = pytest.mark.skipif(not accelerator.IS_BUILT, reason="no C compiler")

TEXTS = st.sampled_from(["", "a", "gen_ai.usage.raw", "ä", "\0", "x" * 300, '{"a": 1}'])
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS
    | st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ATTRIBUTES = st.lists(st.tuples(TEXTS, VALUES), max_size=5)
SPANS = st.lists(
    st.fixed_dictionaries(
        {"attributes": ATTRIBUTES},
        optional={
            "trace_id": st.binary(max_size=16),
            "span_id": st.binary(max_size=8),
            "parent_span_id": st.binary(max_size=8),
            "name": TEXTS,
            "trace_state": TEXTS,
            "kind": st.integers(0, 5),
            "flags": st.integers(0, 2**32 - 1),
            "end_time_unix_nano": st.integers(0, 2**64 - 1),
            "code": st.integers(-(2**31), 2**31 - 1) | st.just(2),
            "message": TEXTS,
            "event": TEXTS,
        },
    ),
    max_size=3,
)
SCOPES = st.lists(st.tuples(TEXTS | st.none(), TEXTS, SPANS), max_size=3)
REQUESTS = st.lists(st.tuples(ATTRIBUTES | st.none(), TEXTS, SCOPES), max_size=3)


def fill(into: AnyValue, value: Any) -> None:
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, str):
        into.string_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, bytes):
        into.bytes_value = value
    elif isinstance(value, list):
        into.array_value.SetInParent()
        for each in value:
            fill(into.array_value.values.add(), each)
    elif isinstance(value, dict):
        into.kvlist_value.SetInParent()
        add_all(into.kvlist_value.values, list(value.items()))


def add_all(into: Any, pairs: list[tuple[str, Any]]) -> None:
    for name, value in pairs:
        pair: KeyValue = into.add(key=name)
        fill(pair.value, value)


def message_of(request: list[tuple[Any, str, Any]]) -> bytes:
    made = ExportTraceServiceRequest()
    for attributes, schema, scopes in request:
        of_resource = made.resource_spans.add(schema_url=schema)
        if attributes is not None:
            of_resource.resource.dropped_attributes_count = len(schema)
            add_all(of_resource.resource.attributes, attributes)
        for scope, version, spans in scopes:
            of_scope = of_resource.scope_spans.add()
            if scope is not None:
                of_scope.scope.name, of_scope.scope.version = scope, version
            for said in spans:
                beside = {"attributes", "code", "message", "event"}
                span = of_scope.spans.add(**{name: said[name] for name in said.keys() - beside})
                add_all(span.attributes, said["attributes"])
                if "code" in said or "message" in said:
                    span.status.code = said.get("code", 0)
                    span.status.message = said.get("message", "")
                if "event" in said:
                    span.events.add(name=said["event"])
    return made.SerializeToString()


def by_library(content: bytes) -> list[Span] | None:
    try:
        return list(spans_by_library(content))
    except ValueError:
        return None


def exact(spans: Any) -> Any:
    """True is not 1 here, and names are in the order of the message."""
    return repr([tuple(each) for each in spans])


@given(REQUESTS)
@settings(max_examples=60, deadline=None)
def test_it_says_the_same_or_nothing(request: list[tuple[Any, str, Any]]) -> None:
    content = message_of(request)
    found = accelerator.usual.spans_of(content)
    assert found is None or exact(found) == exact(spans_by_library(content))
    assert exact(spans_in_message(content)) == exact(spans_by_library(content))


USUAL: list[tuple[Any, str, Any]] = [
    (
        [("service.name", "shop")],
        "https://schema",
        [("scope", "1.0", [
            {
                "trace_id": bytes(range(16)), "span_id": bytes(8), "name": "chat", "kind": 3, "flags": 256, "trace_state": "",
                "end_time_unix_nano": 1_790_000_000_123_456_789, "code": 1,
                "attributes": [("a", "ä"), ("b", 7), ("c", True), ("d", 0.5), ("e", ["stop", {"f": 1}]), ("g", b"\0")],
            },
        ] * 2)],
    )
]  # fmt: skip


def test_what_senders_write_is_read() -> None:
    found = accelerator.usual.spans_of(message_of(USUAL))
    assert found is not None
    assert found[0][:7] == ("000102030405060708090a0b0c0d0e0f", "0" * 16, "", "chat", "scope",
                            1_790_000_000_123_456_789, False)  # fmt: skip
    assert found[0][7] == {
        "service.name": "shop", "a": "ä", "b": 7, "c": True, "d": 0.5, "e": ["stop", {"f": 1}], "g": None,
    }  # fmt: skip
    assert len(found) == 2


def test_of_broken_messages_it_says_nothing_that_the_library_does_not() -> None:
    chance = random.Random(1)
    content = message_of(USUAL)
    read = 0
    for _ in range(1_200):
        broken = bytearray(content)
        for _ in range(chance.randrange(1, 3)):
            at = chance.randrange(len(broken))
            match chance.randrange(4):
                case 0:
                    del broken[at]
                case 1:
                    broken.insert(at, chance.randrange(256))
                case 2:
                    del broken[at:]
                    broken += content[at : at + chance.randrange(9)]
                case _:
                    broken[at] = chance.randrange(256)
            if not broken:
                break
        found = accelerator.usual.spans_of(bytes(broken))
        if found is not None:
            read += 1
            spans = by_library(bytes(broken))
            assert spans is not None
            assert exact(found) == exact(spans)
    assert read > 30


def test_depth_ends_with_the_library() -> None:
    value: Any = 1
    for _ in range(90):
        value = [value]
    content = message_of([([], "", [("s", "", [{"attributes": [("a", value)]}])])])
    assert accelerator.usual.spans_of(content) is None
