"""Events of Lago's agent SDK: counts that overlap are netted, whatever the order and the batches."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.llm.lago_agent import CODES, usage_in_event
from permille.core.llm.read import SentUsage, read_usage, without_content
from tests.core.llm.samples import load

(CAPTURED,) = [case for case in load("gateway-callbacks.json") if "with_deoverlap" in case["expect"]]
TYPES = {
    "llm_input_tokens": "input",
    "llm_cached_input_tokens": "cached_input",
    "llm_output_tokens": "output",
    "llm_reasoning_tokens": "reasoning",
}


def counted(
    events: dict[str, int], provider: str = "openai", api: str = "chat_completions"
) -> dict[Any, Decimal]:
    """Quantities by type (and modality other than text) of a call with these events."""
    found: dict[Any, Decimal] = defaultdict(Decimal)
    for code, value in events.items():
        properties = {"value": str(value), "model": "m", "provider": provider, "api": api, "feature": "chat"}
        said = usage_in_event(code, f"t-{code}", properties)
        assert said["properties"] == {"feature": "chat"}
        sent = SentUsage(
            provider=said["provider"],
            api=said["api"],
            usage=said["usage"],
            model=said["model"],
            response_id=said["id"],
        )
        usage = read_usage(without_content(sent))
        assert usage.warnings == ()
        assert (usage.identity, usage.requests[0].context) == (f"t-{code}", 0)
        for part in usage.requests[0].parts:
            modality = str(part.modality)
            key = str(part.type) if modality == "text" else (str(part.type), modality)
            found[key] += part.quantity
    return {key: number for key, number in found.items() if number}


def test_what_was_captured() -> None:
    sent = CAPTURED["given"]["body"]["events"]
    events = {each["code"]: int(each["properties"]["value"]) for each in sent}
    expected = {TYPES[code]: int(value) for code, value in CAPTURED["expect"]["with_deoverlap"].items()}
    assert counted(events) == expected


ANTHROPIC = {
    "llm_input_tokens": 12,
    "llm_cached_input_tokens": 8000,
    "llm_cache_creation_tokens": 1500,
    "llm_cache_write_5m_tokens": 500,
    "llm_cache_write_1h_tokens": 1000,
    "llm_output_tokens": 250,
}
CASES = [
    (
        ("anthropic", "messages", ANTHROPIC),
        {"input": 12, "cached_input": 8000, "cache_write_5m": 500, "cache_write_1h": 1000, "output": 250},
    ),
    (
        ("anthropic", "databricks_gateway", {**ANTHROPIC, "llm_input_tokens": 9512}),
        {"input": 12, "cached_input": 8000, "cache_write_5m": 500, "cache_write_1h": 1000, "output": 250},
    ),
    (
        (
            "gemini",
            "native",
            {
                "llm_input_tokens": 1000,
                "llm_cached_input_tokens": 300,
                "llm_output_tokens": 200,
                "llm_reasoning_tokens": 50,
            },
        ),
        {"input": 700, "cached_input": 300, "output": 200, "reasoning": 50},
    ),
    (
        ("mistral", "bedrock_converse", {"llm_input_tokens": 100, "llm_cached_input_tokens": 40}),
        {"input": 100, "cached_input": 40},
    ),
    (
        (
            "openai",
            "chat_completions",
            {
                "llm_input_tokens": 100,
                "llm_audio_input_tokens": 30,
                "llm_output_tokens": 60,
                "llm_audio_output_tokens": 50,
                "llm_tool_calls": 3,
            },
        ),
        {"input": 70, ("input", "audio"): 30, "output": 10, ("output", "audio"): 50},
    ),
]


@pytest.mark.parametrize(("sent", "expected"), CASES)
def test_overlaps_go_by_provider_and_surface(
    sent: tuple[str, str, dict[str, int]], expected: dict[Any, int]
) -> None:
    provider, api, events = sent
    assert counted(events, provider, api) == expected


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from(["openai", "anthropic", "gemini", "mistral", "workers-ai", "snowflake"]),
)
def test_the_sum_is_that_of_the_provider(plain: int, cached: int, thought: int, provider: str) -> None:
    inside = provider in {"openai", "gemini", "mistral", "workers-ai"}
    reasoned = provider in {"openai", "workers-ai"}
    events = {
        "llm_input_tokens": plain + (cached if inside else 0),
        "llm_cached_input_tokens": cached,
        "llm_output_tokens": 7 + (thought if reasoned else 0),
        "llm_reasoning_tokens": thought,
    }
    expected = {"input": plain, "cached_input": cached, "output": 7, "reasoning": thought}
    assert counted(events, provider) == {name: value for name, value in expected.items() if value}


def test_every_code_of_the_sdk_is_known() -> None:
    assert len(CODES) == 11
