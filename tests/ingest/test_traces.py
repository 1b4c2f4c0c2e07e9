"""Traces and LiteLLM's payloads over HTTP down to the database, as their senders send them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.core.llm.samples import load
from tests.ingest.test_llm_usage import SECRET, Client, Talk, talk

__all__ = ["talk"]

JSON = {"content-type": "application/json; charset=utf-8"}
PROTOBUF = {"content-type": "application/x-protobuf"}
PER_CALL = {"input": 2006, "output": 300}
"""As the metric folds it, which lists these two types."""


def span(number: int, **attributes: Any) -> dict[str, Any]:
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-5.4-mini",
        "gen_ai.response.id": f"chatcmpl-{number}",
        "permille.subscription": "sub",
        "gen_ai.input.messages": SECRET,
        **attributes,
    }
    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": f"eee19b7ec3c1b{number:03d}",
        "name": "chat",
        "endTimeUnixNano": "1790899200000000000",
        "attributes": [
            {
                "key": key,
                "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
            }
            for key, value in said.items()
        ],
    }


COUNTS = {
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.cache_read.input_tokens": 1920,
}


def trace(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "any"}, "spans": list(spans)}]}]}


def message(document: dict[str, Any]) -> bytes:
    """The protobuf form; ids are hexadecimal in OTLP's JSON and bytes there."""
    text = json.dumps(document)
    for each in (
        "5b8efff798038103d269b633813fc60c",
        *(f"eee19b7ec3c1b{number:03d}" for number in range(1, 9)),
    ):
        text = text.replace(each, base64.b64encode(bytes.fromhex(each)).decode())
    return ParseDict(json.loads(text), ExportTraceServiceRequest()).SerializeToString()


async def sent(client: Client, path: str, content: bytes, **headers: str) -> httpx2.Response:
    return await client.http.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", ["/v1/traces", "/otlp/v1/traces", "/api/public/otel/v1/traces"])
def test_both_forms_of_a_trace_are_the_same_calls(talk: Callable[[Talk], None], path: str) -> None:
    async def conversation(client: Client) -> None:
        document = trace(span(1, **COUNTS), span(2, **COUNTS))
        first = await sent(client, path, json.dumps(document).encode(), **JSON)
        assert (first.status_code, first.headers["content-type"], first.json()) == (
            200,
            "application/json",
            {},
        )
        assert await client.counted() == {name: 2 * count for name, count in PER_CALL.items()}
        again = await sent(
            client, path, gzip.compress(message(document)), **PROTOBUF, **{"content-encoding": "gzip"}
        )
        assert (again.status_code, again.headers["content-type"], again.content) == (
            200,
            PROTOBUF["content-type"],
            b"",
        )
        await sent(client, path, message(trace(span(3, **COUNTS), span(3, **COUNTS))), **PROTOBUF)
        assert await client.counted() == {name: 3 * count for name, count in PER_CALL.items()}

    talk(conversation)


def test_a_call_without_usage_is_a_rejected_span_and_is_kept_aside(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        document = trace(span(1, **COUNTS), span(2))
        answer = await sent(client, "/v1/traces", message(document), **PROTOBUF)
        partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
        assert partial.rejected_spans == 1
        assert "stream_options.include_usage" in partial.error_message
        answer = await sent(client, "/v1/traces", json.dumps(document).encode(), **JSON)
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
        (held,) = (await client.get("/llm/held_usages"))["held_usages"]
        assert (held["problem"]["code"], held["external_subscription_id"]) == ("usage_missing", "sub")
        assert await client.counted() == PER_CALL

    talk(conversation)


def test_a_span_of_nobody_is_kept_and_attributed_later(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        nobody = trace(span(1, **COUNTS, **{"permille.subscription": "", "user.id": "x" * 300}))
        assert (await sent(client, "/v1/traces", message(nobody), **PROTOBUF)).content == b""
        assert await client.counted() == {}
        (held,) = (await client.get("/llm/held_usages"))["held_usages"]
        path = f"/llm/held_usages/{held['lago_id']}/attribute"
        await client.post(path, {"held_usage": {"external_customer_id": "cus"}})
        assert await client.counted() == PER_CALL

    talk(conversation)


def test_the_key_as_a_password_of_basic_authorization(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        key = client.http.headers["authorization"].removeprefix("Bearer ")
        body = message(trace(span(1, **COUNTS)))
        for credentials, status in ((f"any:{key}", 200), (f"{key}:", 401), ("any:other", 401)):
            basic = base64.b64encode(credentials.encode()).decode()
            answer = await sent(client, "/v1/traces", body, authorization=f"Basic {basic}", **PROTOBUF)
            assert answer.status_code == status
        answer = await sent(client, "/v1/traces", body, authorization="Basic %", **PROTOBUF)
        assert answer.status_code == 401

    talk(conversation)


@pytest.mark.parametrize("headers", [JSON, PROTOBUF])
@pytest.mark.parametrize(
    "body", [b"\xff\xff\xff", b"[1]", b'{"resourceSpans": 1}', b'{"resourceSpans": [{"scopeSpans": 5}]}']
)
def test_what_is_no_trace_is_refused(
    talk: Callable[[Talk], None], body: bytes, headers: dict[str, str]
) -> None:
    async def conversation(client: Client) -> None:
        assert (await sent(client, "/v1/traces", body, **headers)).status_code == 400

    talk(conversation)


def test_payloads_of_litellm_in_its_three_forms(talk: Callable[[Talk], None]) -> None:
    payloads = [payload for case in load("gateway-callbacks.json")[:4] for payload in case["given"]["body"]]
    for payload in payloads:
        payload["metadata"]["requester_metadata"] = {"subscription": "sub"}
    texts = [json.dumps(payload, default=float) for payload in payloads]

    async def conversation(client: Client) -> None:
        path = "/api/v1/llm/litellm"
        array = await sent(client, path, f"[{','.join(texts)}]".encode(), **JSON)
        assert [usage["status"] for usage in array.json()["usages"]] == ["counted"] * 3
        units = await client.counted()
        assert units == {"input": 2 * 2006 + 9512, "output": 2 * 300 + 250, "web_search": 2}
        lines = await sent(client, path, "\n".join(texts).encode(), **JSON)
        assert [usage["status"] for usage in lines.json()["usages"]] == ["repeated"] * 3
        single = await sent(client, path, json.dumps(payloads[0], indent=1, default=float).encode(), **JSON)
        assert [usage["status"] for usage in single.json()["usages"]] == ["repeated"]
        assert (await sent(client, path, b"[1]", **JSON)).status_code == 422
        assert (await sent(client, path, b"{", **JSON)).status_code == 400
        assert await client.counted() == units

    talk(conversation)
