"""OTLP over HTTP: the calls of models in traces are counted once, and nothing else of them is kept."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from permille.ingest.decoders.traces import PATHS
from permille.store import recent_usages

from .conftest import SECRET, Client, Talk

CASES = json.loads((Path(__file__).parents[1] / "core" / "llm" / "answers" / "otlp-spans.json").read_text())[
    "cases"
]
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def span(
    response_id: str | None, *, tokens: int | None = 100, span_id: str = "00f067aa0ba902b7"
) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-5.4-mini",
        "gen_ai.input.messages": SECRET,
        "permille.subscription": "sub",
    }
    if response_id:
        attributes["gen_ai.response.id"] = response_id
    if tokens is not None:
        attributes |= {"gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 7}
    return {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": span_id,
        "name": "chat gpt-5.4-mini",
        "attributes": [
            {
                "key": key,
                "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
            }
            for key, value in attributes.items()
        ],
    }


def document(*spans: dict[str, Any]) -> dict[str, Any]:
    scope = {"name": "opentelemetry.instrumentation.openai_v2"}
    return {"resourceSpans": [{"scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def message(*spans: dict[str, Any]) -> bytes:
    """The document in protobuf, where ids are bytes."""
    raw = [
        {
            **each,
            "traceId": b64encode(bytes.fromhex(each["traceId"])).decode(),
            "spanId": b64encode(bytes.fromhex(each["spanId"])).decode(),
        }
        for each in spans
    ]
    return bytes(ParseDict(document(*raw), ExportTraceServiceRequest()).SerializeToString())


async def export(
    client: Client, content: bytes, headers: dict[str, str], path: str = PATHS[0], status: int = 200
) -> httpx2.Response:
    answer = await client.http.post(path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    return answer


def test_a_call_counts_once_on_every_path_and_in_every_form(
    talk: Callable[[Talk], None],
) -> None:
    async def conversation(client: Client) -> None:
        sent = json.dumps(document(span("chatcmpl-9"))).encode()
        for path in PATHS:
            answer = await export(client, sent, {"Content-Type": "application/json"}, path)
            assert answer.json() == {}
        secret = client.http.headers["authorization"].split()[1]
        basic = {"Authorization": "Basic " + b64encode(f"pk:{secret}".encode()).decode()}
        twice = message(span("chatcmpl-9"), span("chatcmpl-10"), span("chatcmpl-10"))
        packed = {**PROTOBUF, **basic, "Content-Encoding": "gzip"}
        answer = await export(client, gzip.compress(twice), packed)
        assert answer.content == b""
        assert answer.headers["content-type"] == PROTOBUF["Content-Type"]
        assert await client.counted() == {"input": 200, "output": 14}
        other = {"Authorization": "Basic " + b64encode(b"pk:wrong").decode()}
        await export(client, twice, {**PROTOBUF, **other}, status=401)

    talk(conversation)


def test_a_call_without_usage_is_rejected_and_shown(
    talk: Callable[[Talk], None],
    db: psycopg.Connection[Any],
) -> None:
    async def conversation(client: Client) -> None:
        spans = span("chatcmpl-1", tokens=None), span(None, span_id="00f067aa0ba902b8")
        answer = await export(client, message(*spans), PROTOBUF)
        said = ExportTraceServiceResponse.FromString(answer.content).partial_success
        assert said.rejected_spans == 1
        assert "include_usage" in said.error_message
        (held,) = (await client.get("/llm/held_usages"))["held_usages"]
        assert held["problem"]["code"] == "usage_missing"
        assert held["id"] == "openai:chatcmpl-1"
        assert await client.counted() == {"input": 100, "output": 7}
        await export(client, b"\xff\xff", PROTOBUF, status=400)
        await export(client, b'{"resourceSpans": 7}', {"Content-Type": "application/json"}, status=400)
        await export(client, b"[]", {"Content-Type": "application/json"}, status=400)
        await export(client, message({**span("x"), "attributes": []}), PROTOBUF)
        assert len((await client.get("/llm/held_usages"))["held_usages"]) == 1

    talk(conversation)
    found, _ = recent_usages.listing(db, _only_organization(db), limit=100, offset=0)
    client = "opentelemetry.instrumentation.openai_v2"
    python = found[2].client
    assert [(each.client, each.status, each.code, each.count) for each in reversed(found)] == [
        (client, "counted", None, 1),
        (client, "held", "usage_missing", 1),
        *[(python, "refused", None, 1)] * 3,
        (client, "dropped", "no_call", 1),
    ]
    assert {each.message for each in found if each.status == "refused"} == {"The body can't be read."}
    assert SECRET not in str(found)


def _only_organization(db: psycopg.Connection[Any]) -> UUID:
    row = db.execute("select id from organization").fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


def test_what_real_programs_send_is_taken(
    talk: Callable[[Talk], None],
    db: psycopg.Connection[Any],
) -> None:
    async def conversation(client: Client) -> None:
        for case in CASES:
            for each in case["given"].get("requests", [case["given"]]):
                sent = json.dumps(each).encode()
                await export(client, sent, {"Content-Type": "application/json"})
        held = (await client.get("/llm/held_usages?per_page=100"))["held_usages"]
        codes = {each["problem"]["code"] for each in held}
        assert codes <= {
            "subscription_not_found",
            "customer_not_found",
            "subscription_missing",
            "usage_missing",
        }
        identities = {each["id"] for each in held if each["problem"]["code"] != "usage_missing"}
        expected = {usage["transaction_id"] for case in CASES for usage in case["expect"]["usages"]}
        assert {each.removeprefix("openai:") for each in identities} >= {
            each.removeprefix("openai:") for each in expected if each.startswith("openai:")
        }

    talk(conversation)
    for table in ("event", "held_usage"):
        rows = db.execute(f"select count(*) from {table} t where t::text like %s", [f"%{SECRET}%"]).fetchone()
        assert rows == (0,)
