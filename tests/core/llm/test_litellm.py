"""What LiteLLM's callbacks send (captured from its proxy) as usages."""

import json
from decimal import Decimal
from typing import Any

import pytest

from permille.core.llm.litellm import other_identities, usage_in, usage_in_cloud_event, usage_in_lago_event
from permille.core.llm.parts import UnreadableUsage, Usage
from permille.core.llm.read import SentUsage, read_usage
from tests.core.llm.samples import FOLDER

CASES = [
    case
    for case in json.loads((FOLDER / "gateway-callbacks.json").read_text(), parse_float=Decimal)["cases"]
    if case["given"]["path"] == "/api/v1/llm/litellm"
]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_payloads_of_generic_api(case: dict[str, Any]) -> None:
    usages = [found for payload in case["given"]["body"] if (found := usage_in(payload))]
    assert len(usages) == len(case["expect"]["usages"])
    for sent, expected in zip(usages, case["expect"]["usages"], strict=True):
        usage = read_usage(
            SentUsage(
                provider=sent["provider"],
                api=sent["api"],
                usage=sent["usage"],
                model=sent["model"],
                response_id=sent["id"],
            )
        )
        events = {(part.metric, part.type): part.quantity for part in usage.requests[0].parts}
        assert usage.identity == expected["transaction_id"]
        assert (usage.model, usage.warnings) == (expected["model"], ())
        assert events == {
            (event["metric"], event["type"]): Decimal(event["quantity"]) for event in expected["events"]
        }
        assert sent["cost"] == Decimal(expected["provider_cost_usd"])
        assert sent["external_subscription_id"] == expected["external_subscription_id"]
        assert sent["properties"].get("cache_hit") == ("true" if expected.get("cache_hit") else None)


PAID_BY = [
    (
        {"end_user": "e", "metadata": {"requester_metadata": {"subscription": "s"}}},
        {"external_subscription_id": "s"},
    ),
    ({"end_user": "e", "metadata": {"user_api_key_team_id": "t"}}, {"external_customer_id": "e"}),
    ({"metadata": {"user_api_key_team_id": "t", "user_api_key_org_id": "o"}}, {"external_customer_id": "t"}),
    ({"metadata": {"user_api_key_org_id": "o", "user_api_key_user_id": "u"}}, {"external_customer_id": "o"}),
    ({"metadata": {"user_api_key_user_id": "u"}}, {"external_customer_id": "u"}),
    ({"metadata": None}, {}),
]


@pytest.mark.parametrize(("payload", "payer"), PAID_BY)
def test_who_pays(payload: dict[str, Any], payer: dict[str, str]) -> None:
    usage = usage_in({"status": "success", "prompt_tokens": 1, **payload})
    assert usage is not None
    assert {name: value for name, value in usage.items() if name.startswith("external_")} == payer


def test_a_failure_that_used_tokens_is_a_call() -> None:
    assert usage_in({"status": "failure", "prompt_tokens": 7, "completion_tokens": 0}) is not None
    assert usage_in({"status": "failure", "prompt_tokens": 0, "completion_tokens": 0}) is None


def test_audio_has_a_modality_and_text_tokens_are_no_whole() -> None:
    counts = {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "total_tokens": 140,
        "prompt_tokens_details": {"text_tokens": 20, "audio_tokens": 30, "cached_tokens": 50},
        "completion_tokens_details": {"audio_tokens": 40},
    }
    usage = read_usage(SentUsage(provider="openai", api="litellm", usage=counts, model="gpt-audio"))
    assert {(part.type, part.modality): part.quantity for part in usage.requests[0].parts} == {
        ("cached_input", "text"): 50,
        ("input", "text"): 20,
        ("input", "audio"): 30,
        ("output", "audio"): 40,
    }


LAGO_EVENT, CLOUD_EVENT = (
    {
        "model": "gpt-5.4-mini",
        name: Decimal("0.0015585"),
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
    }
    for name in ("response_cost", "cost")
)


def test_events_of_the_callbacks_for_lago_and_openmeter() -> None:
    lago = usage_in_lago_event("litellm", "8b6f", LAGO_EVENT)
    cloud = usage_in_cloud_event("litellm_tokens", "litellm-proxy|chatcmpl-1", CLOUD_EVENT)
    for said, identity in ((lago, "8b6f"), (cloud, "openai:chatcmpl-1")):
        usage = read(said)
        assert (usage.identity, usage.provider, usage.cost) == (identity, "openai", Decimal("0.0015585"))
        assert {part.type: part.quantity for part in usage.requests[0].parts} == {
            "input": 2006,
            "output": 300,
        }


def test_an_event_without_tokens_has_no_usage() -> None:
    with pytest.raises(UnreadableUsage, match="no tokens"):
        read(usage_in_lago_event("litellm", "8b6f", {"model": "gpt-image-2", "response_cost": None}))


BEHIND = [
    ("azure", "gpt-4o-2024-08-06"),
    ("openai", "our-own-model"),
    ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("google", "claude-sonnet-4-5@20250929"),
    ("openai", "openai/our-own-model"),
    ("vertex_ai", "vertex_ai/claude-sonnet-4-5"),
    ("openrouter", "openrouter/anthropic/claude-sonnet-4-5"),
]


@pytest.mark.parametrize(("provider", "model"), BEHIND)
def test_an_answer_is_known_by_all_of_its_callbacks(provider: str, model: str) -> None:
    """Whichever of them comes first: the other is looked for. OpenMeter's has no prefix of the provider."""
    bare = model.removeprefix(f"{provider}/")
    event = read(
        usage_in_cloud_event("litellm_tokens", "litellm-proxy|chatcmpl-1", {**CLOUD_EVENT, "model": bare})
    )
    payload = usage_in(
        {
            "id": "chatcmpl-1",
            "custom_llm_provider": provider,
            "model": model,
            "prompt_tokens": 1,
            "total_tokens": 1,
        }
    )
    assert payload is not None
    call = read(payload)
    assert call.identity in {event.identity, *other_identities(event)}
    assert event.identity in {call.identity, *other_identities(call)}


def read(said: dict[str, Any]) -> Usage:
    return read_usage(
        SentUsage(
            provider=said["provider"],
            api=said["api"],
            usage=said["usage"],
            model=said["model"],
            response_id=said["id"],
            cost=None if said.get("cost") is None else str(said["cost"]),
        )
    )
