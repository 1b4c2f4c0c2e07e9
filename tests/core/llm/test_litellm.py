"""What LiteLLM's callbacks send (captured from its proxy) as usages."""

import json
from decimal import Decimal
from typing import Any

import pytest

from permille.core.llm.litellm import usage_in
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
