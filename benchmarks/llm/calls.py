"""Calls of models, and the requests that bring them by each road: answers, spans, and the plain events that they become."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from permille.core.llm.call import Listed, events_of
from permille.core.llm.read import SentUsage, read_usage

BATCH = 100
SUBSCRIPTIONS = 200
TYPES = ("input", "cached_input", "cache_write_5m", "cache_write_1h", "output", "reasoning")
MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-pro"}
LISTED: Listed = {"llm_tokens": {"type": TYPES}}
WORDS = "What a customer asked, and what was answered. " * 12


@dataclass(frozen=True, slots=True)
class Call:
    """An answer of a provider, and who pays for it."""

    provider: str
    answer: Mapping[str, Any]
    subscription: str

    @property
    def id(self) -> str:
        return str(self.answer.get("id") or self.answer["responseId"])


def calls(chance: random.Random, count: int) -> list[Call]:
    """New calls of five kinds, which make 2 to 6 events each."""
    kinds: Sequence[Callable[[random.Random, str], tuple[str, dict[str, Any]]]]
    kinds = (_short_chat, _chat, _message, _searching_message, _generated)
    return [
        Call(*kinds[place % len(kinds)](chance, uuid.UUID(int=chance.getrandbits(128)).hex), _payer(chance))
        for place in range(count)
    ]


def _payer(chance: random.Random) -> str:
    return f"sub-{chance.randrange(SUBSCRIPTIONS)}"


def _short_chat(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    provider, answer = _chat(chance, name)
    sent, written = chance.randrange(1, 2_000), chance.randrange(1, 500)
    usage = {"prompt_tokens": sent, "completion_tokens": written, "total_tokens": sent + written}
    return provider, {**answer, "usage": usage}


def _chat(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    sent, written = chance.randrange(1_000, 4_000), chance.randrange(200, 900)
    return "openai", {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{MODELS['openai']}-2026-03-17",
        "service_tier": "default",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}
        ],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": written,
            "total_tokens": sent + written,
            "prompt_tokens_details": {"cached_tokens": 900, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 150,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def _message(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    short, long = chance.randrange(1, 500), chance.randrange(1, 500)
    return "anthropic", {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": f"{MODELS['anthropic']}-20250929",
        "content": [{"type": "text", "text": WORDS}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": chance.randrange(1, 1_000),
            "cache_read_input_tokens": chance.randrange(1, 9_000),
            "cache_creation_input_tokens": short + long,
            "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
            "output_tokens": chance.randrange(1, 900),
            "service_tier": "standard",
        },
    }


def _searching_message(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    provider, answer = _message(chance, name)
    return provider, {
        **answer,
        "usage": {**answer["usage"], "server_tool_use": {"web_search_requests": chance.randrange(1, 4)}},
    }


def _generated(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    sent, written, thought = (chance.randrange(1, 2_000) for _ in range(3))
    return "google", {
        "responseId": name,
        "modelVersion": MODELS["google"],
        "candidates": [{"content": {"role": "model", "parts": [{"text": WORDS}]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": sent,
            "candidatesTokenCount": written,
            "thoughtsTokenCount": thought,
            "totalTokenCount": sent + written + thought,
        },
    }


def events(call: Call) -> list[dict[str, Any]]:
    """What a call becomes, as plain events."""
    usage = read_usage(SentUsage(provider=call.provider, response=call.answer))
    assert usage.identity is not None
    found, shared = events_of(usage, usage.identity, LISTED, {})
    return [
        {
            "transaction_id": each.transaction_id,
            "code": each.code,
            "external_subscription_id": call.subscription,
            "timestamp": int(time.time()),
            "properties": dict(each.properties),
        }
        for each in (*found, *shared)
    ]


def as_events(batch: Sequence[Call], key: str) -> bytes:
    """The same as the events that it becomes."""
    sent = [event for call in batch for event in events(call)]
    return _request("/api/v1/events/batch", json.dumps({"events": sent}).encode(), key)


def as_answers(batch: Sequence[Call], key: str) -> bytes:
    """The answers as they are."""
    sent = [
        {
            "provider": call.provider,
            "response": call.answer,
            "external_subscription_id": call.subscription,
        }
        for call in batch
    ]
    return _request("/api/v1/llm/usage", json.dumps({"usages": sent}).encode(), key)


def as_spans(batch: Sequence[Call], key: str) -> bytes:
    """A span for each call, with the provider's usage object, in protobuf."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.openai"
    for call in batch:
        span = scope.spans.add(
            trace_id=uuid.uuid4().bytes,
            span_id=uuid.uuid4().bytes[:8],
            name="chat",
            end_time_unix_nano=time.time_ns(),
        )
        for name, text in {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": call.provider,
            "gen_ai.request.model": MODELS[call.provider],
            "gen_ai.response.model": call.answer.get("model") or MODELS[call.provider],
            "gen_ai.response.id": call.id,
            "gen_ai.output.messages": WORDS,
            "gen_ai.usage.raw": json.dumps(call.answer.get("usage") or call.answer["usageMetadata"]),
            "permille.subscription": call.subscription,
        }.items():
            span.attributes.add(key=name).value.string_value = text
    return _request("/v1/traces", request.SerializeToString(), key, "application/x-protobuf")


def _request(path: str, body: bytes, key: str, media_type: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


PLAIN = "plain events"
ROADS = {PLAIN: as_events, "/llm/usage": as_answers, "spans in protobuf": as_spans}
