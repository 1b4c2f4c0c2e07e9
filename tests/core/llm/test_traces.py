"""Spans of real programs (captured, values invented) as usages, and which of them count."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from permille.core.llm.otlp.calls import TracedCalls, calls_in
from permille.core.llm.otlp.spans import spans_in

CASES = json.loads((Path(__file__).parent / "answers" / "otlp-spans.json").read_text(), parse_float=Decimal)[
    "cases"
]


def calls(document: dict[str, Any]) -> TracedCalls:
    return calls_in(spans_in(document))


@pytest.mark.parametrize(
    "text", ["[" * 60_000, '{"anthropic": ["usage"]}', '{"anthropic": "usage"}', "1" * 5_000]
)
def test_an_attribute_that_is_no_object_keeps_no_span_from_counting(text: str) -> None:
    for name in ("gen_ai.usage.raw", "langfuse.observation.usage_details", "ai.response.providerMetadata"):
        texts = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.provider.name": "openai",
        }
        attributes = [
            {"key": key, "value": {"stringValue": value}} for key, value in {**texts, name: text}.items()
        ]
        attributes.append({"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}})
        span = {"traceId": "a" * 32, "spanId": "b" * 16, "name": "chat", "attributes": attributes}
        found = calls({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}, "spans": [span]}]}]})
        assert len(found.usages) == 1, name


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_spans_that_count(case: dict[str, Any]) -> None:
    for document in case["given"].get("requests", [case["given"]]):
        found = calls(document)
        expected = case["expect"]
        identities = [
            usage["id"] if usage["id"].startswith("span:") else f"{usage['provider']}:{usage['id']}"
            for usage in found.usages
        ]
        assert identities == [usage["transaction_id"] for usage in expected["usages"]]
        for usage, wanted in zip(found.usages, expected["usages"], strict=True):
            assert usage.get("external_subscription_id") == wanted["external_subscription_id"]
            assert usage.get("external_customer_id") == wanted.get("external_customer_id")
            assert usage.get("cost") == wanted.get("provider_cost_usd")
            assert usage["model"].startswith(wanted["model"])
        assert len(found.missing) == len(expected["rejected_spans"])
        if "requests" not in case["given"]:
            assert found.skipped == [(span["span"], span["reason"]) for span in expected["skipped_spans"]]


def trace(scope: str | None, *spans: dict[str, Any]) -> dict[str, Any]:
    for number, span in enumerate(spans):
        span.setdefault("traceId", "0AF7")
        span.setdefault("spanId", f"{number:04x}")
        span["attributes"] = [
            {"key": key, "value": value_of(value)} for key, value in span["attributes"].items()
        ]
    return {
        "resourceSpans": [{"scopeSpans": [{"scope": {"name": scope} if scope else {}, "spans": list(spans)}]}]
    }


def value_of(value: object) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}


def test_a_failed_call_without_usage_is_no_call_and_one_with_usage_is() -> None:
    failed = {"status": {"code": 2}, "attributes": {"gen_ai.operation.name": "chat"}}
    cut = {
        "status": {"code": "STATUS_CODE_ERROR"},
        "attributes": {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7},
    }
    found = calls(trace("any", failed, cut))
    assert [usage["usage"] for usage in found.usages] == [{"input_tokens": 7}]
    assert found.missing == []


def test_a_streams_first_span_of_logfire_waits_for_its_log() -> None:
    request = {
        "attributes": {
            "gen_ai.operation.name": "chat",
            "logfire.span_type": "span",
            "gen_ai.response.model": "m",
        }
    }
    log = {
        "attributes": {
            "gen_ai.operation.name": "chat",
            "logfire.span_type": "log",
            "gen_ai.response.model": "m",
        }
    }
    found = calls(trace("logfire.openai", request, log))
    assert (found.usages, [usage["id"] for usage in found.missing], found.skipped) == (
        [],
        ["span:0af7:0001"],
        [],
    )


def test_a_routers_attempts_below_its_call_do_not_count_in_either_order() -> None:
    usage = {"gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.completion_tokens": 2}
    call: dict[str, Any] = {"spanId": "aa", "attributes": usage}
    attempt: dict[str, Any] = {"spanId": "bb", "parentSpanId": "AA", "attributes": dict(usage)}
    for spans in ([call, attempt], [attempt, call]):
        found = calls(trace(None, *[{**span, "attributes": dict(span["attributes"])} for span in spans]))
        assert [each["id"] for each in found.usages] == ["span:0af7:aa"]


def test_anthropics_own_usage_in_vercels_spans_wins_over_the_summary() -> None:
    usage = {"input_tokens": 12, "cache_creation": {"ephemeral_1h_input_tokens": 1000}, "output_tokens": 3}
    span = {
        "attributes": {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "anthropic.messages",
            "ai.response.model": "claude-sonnet-5-5",
            "ai.usage.inputTokens": 1012,
            "ai.response.providerMetadata": json.dumps({"anthropic": {"usage": usage}}),
        }
    }
    (found,) = calls(trace("ai", span)).usages
    assert (found["provider"], found["api"], found["usage"]) == ("anthropic", "anthropic", usage)


def test_content_is_in_no_usage() -> None:
    secret = "the planted secret"
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.input.messages": secret,
        "gen_ai.output.messages": secret,
        "ai.prompt": secret,
        "output.value": secret,
        "langfuse.observation.input": secret,
    }
    assert secret not in json.dumps(calls(trace("any", {"attributes": attributes})).usages)


@pytest.mark.parametrize(
    "document",
    [{"resourceSpans": {"a": 1}}, {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{}]}]}]}]}],
)
def test_what_is_no_trace_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises((TypeError, KeyError)):
        calls(document)


ANSWERS = [
    ('{"id": "chatcmpl-7", "service_tier": "priority", "choices": []}', ("chatcmpl-7", "priority")),
    ("Hello", ("span:0af7:0000", None)),
    ('["a"]', ("span:0af7:0000", None)),
    ('{"id": 7, "service_tier": ""}', ("span:0af7:0000", None)),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_the_id_that_only_the_answer_in_a_span_has(answer: str, expected: tuple[str, str | None]) -> None:
    span = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 7, "output.value": answer}
    (usage,) = calls(trace("openinference.instrumentation.openai", {"attributes": span})).usages
    assert (usage["id"], usage.get("tier")) == expected
