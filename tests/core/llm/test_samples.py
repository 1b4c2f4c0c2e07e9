"""Every sample of a provider's answer becomes the parts that it should."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from permille.client.endpoints import _OWN_SHAPE
from permille.core.llm.apis import named
from permille.core.llm.call import events_of
from permille.core.llm.fold import fold
from permille.core.llm.model_name import name_model
from permille.core.llm.parts import Metric, UnreadableUsage, Usage
from permille.core.llm.read import SentUsage, read_usage, without_content
from tests.core.llm.samples import load, sent, usages


def name(case: Mapping[str, Any]) -> str:
    return f"{case.get('provider')} {case.get('name', case['given'])}"


def events(usage: Usage) -> Counter[tuple[Any, ...]]:
    return Counter(
        (part.metric, part.type, part.modality, part.quantity, request.model, str(request.context))
        for request in usage.requests
        for part in request.parts
    )


def expected(case: Mapping[str, Any]) -> Counter[tuple[Any, ...]]:
    dimensions = case["expect"]["dimensions"]
    return Counter(
        (
            each["metric"],
            each["type"],
            each.get("modality"),
            Decimal(each["quantity"]),
            each.get("model", dimensions["model"]),
            each.get("context", dimensions["context"]),
        )
        for each in case["expect"]["events"]
    )


ACCEPTED = [case for case in usages() if case["expect"]["status"] == "accepted"]
REJECTED = [case for case in usages() if case["expect"]["status"] == "rejected"]


@pytest.mark.parametrize("case", ACCEPTED, ids=name)
def test_a_sample_is_read(case: dict[str, Any]) -> None:
    usage = read_usage(sent(case))
    expect = case["expect"]
    assert events(usage) == expected(case)
    assert usage.provider == expect["dimensions"]["provider"]
    assert usage.tier == expect["dimensions"]["tier"]
    assert usage.region == expect["dimensions"].get("region")
    assert expect["dimensions"]["model_raw"] in [each.model_sent for each in usage.requests]
    assert usage.identity == (None if expect["transaction_id"].startswith("(") else expect["transaction_id"])
    said = expect.get("provider_cost_usd")
    assert usage.cost == (None if said is None else Decimal(said))
    codes = [each.partition(":")[0] for each in expect.get("warnings", [])]
    assert [each.code for each in usage.warnings] == codes


@pytest.mark.parametrize("case", ACCEPTED, ids=name)
def test_a_metric_of_input_and_output_gets_the_providers_totals(case: dict[str, Any]) -> None:
    totals: Counter[str] = Counter()
    for request in read_usage(sent(case)).requests:
        for part in fold(request.parts, types={"input", "output"}, modalities={"text"}):
            if part.metric is Metric.TOKENS:
                totals[part.type] += int(part.quantity)
    assert {key: str(value) for key, value in totals.items()} == case["expect"]["folded_to_input_and_output"]


@pytest.mark.parametrize("case", ACCEPTED, ids=name)
def test_nothing_is_read_from_what_is_not_kept(case: dict[str, Any]) -> None:
    assert read_usage(without_content(sent(case))) == read_usage(sent(case))


@pytest.mark.parametrize("case", REJECTED, ids=name)
def test_a_sample_without_usage_says_so(case: dict[str, Any]) -> None:
    with pytest.raises(UnreadableUsage) as refused:
        read_usage(sent(case))
    assert [str(refused.value)] == case["expect"]["warnings"]


@pytest.mark.parametrize("case", load("model-names.json"), ids=name)
def test_a_model_is_named(case: dict[str, Any]) -> None:
    given = case["given"]
    found = name_model(given["provider"], given["model"])
    for key in ("provider", "model", "snapshot", "fine_tune", "variant", "region", "alias"):
        if key in case:
            assert getattr(found, key) == case[key], key
    if "then_model" in case:
        named = name_model(given["provider"], given["model"], aliases=case["with_alias"])
        assert named.model == case["then_model"]


ALIASED = [
    ("azure.ai.openai", "prod-chat-eu", ("azure", "gpt-4o", None)),
    ("azure", "azure/prod-chat-eu", ("azure", "gpt-4o", None)),
    (
        "aws",
        "arn:aws:bedrock:eu-west-1:1:application-inference-profile/p1",
        ("aws", "anthropic.claude-x", "eu"),
    ),
    ("unknown", "best", ("openrouter", "anthropic/claude-sonnet-5-5", None)),
    ("azure", "odd", ("azure", "odd", None)),
    ("openai", "gpt-4o-2024-08-06", ("anthropic", "claude-x", None)),
    ("openai", "gpt-4o-2024-05-13", ("openai", "gpt-4o", None)),
]
ALIASES = {
    "azure/prod-chat-eu": "azure/gpt-4o-2024-08-06",
    "aws/arn:aws:bedrock:eu-west-1:1:application-inference-profile/p1": "aws/eu.anthropic.claude-x",
    "unknown/best": "openrouter/anthropic/claude-sonnet-5-5:beta",
    "azure/odd": "azure/odd",
    "openai/gpt-4o-2024-08-06": "anthropic/claude-x",
    "openai/claude-x": "openai/never",
    "anthropic/claude-x": "openai/never",
}


@pytest.mark.parametrize(("provider", "sent_name", "meant"), ALIASED)
def test_an_alias_goes_first_and_its_model_is_read_like_any(
    provider: str, sent_name: str, meant: tuple[str, str, str | None]
) -> None:
    found = name_model(provider, sent_name, aliases=ALIASES)
    assert (found.provider, found.model, found.region) == meant


def test_an_answer_keeps_its_identity_when_its_model_gets_an_alias() -> None:
    case = next(each for each in usages() if each["name"].startswith("responses: cache writes"))
    answer = case["given"]
    before = SentUsage(provider="azure", response={**answer, "model": "prod"})
    plain, aliased = (read_usage(before, each) for each in (None, {"azure/prod": "openai/gpt-5.4"}))
    assert [each.code for each in plain.warnings] == ["model_unknown"]
    assert aliased.warnings == ()
    assert aliased.identity == plain.identity == f"azure:{answer['id']}"
    own, shared = events_of(aliased, f"azure:{answer['id']}", {}, {})
    said = {(each.properties["provider"], each.properties["model"]) for each in (*own, *shared)}
    assert said == {("openai", "gpt-5.4")}
    assert [each.transaction_id for each in shared] == [
        each.transaction_id for each in events_of(plain, "azure:x", {}, {})[1]
    ]


USAGES_ALONE = [
    ("google", {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13}),
    ("aws", {"inputTokens": 10, "cacheReadInputTokens": 4, "outputTokens": 3, "totalTokens": 17}),
    ("anthropic", {"input_tokens": 10, "output_tokens": 3}),
    ("ollama", {"prompt_eval_count": 10, "eval_count": 3}),
    ("openai", {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}),
    ("some-gateway", {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}),
]


@pytest.mark.parametrize(("provider", "counts"), USAGES_ALONE, ids=[each for each, _ in USAGES_ALONE])
def test_a_usage_object_alone_is_read(provider: str, counts: dict[str, Any]) -> None:
    alone = SentUsage(provider=provider, usage=counts, model="gpt-5.4", response_id="1")
    usage = read_usage(without_content(alone))
    found = {str(part.type): int(part.quantity) for part in usage.requests[0].parts}
    assert (found["input"], found["output"]) == (10, 3)


def test_a_usage_object_without_known_counts_is_not_nothing() -> None:
    alone = SentUsage(provider="openai", api="openai_chat", usage={"tokens_of_mine": 7}, model="gpt-5.4")
    with pytest.raises(UnreadableUsage, match="usage_missing"):
        read_usage(alone)


ENDPOINTS = [
    *((api, "openai") for api in ("openai_chat", "openai_responses", "openai_embeddings")),
    *((api, "openai") for api in ("openai_images", "openai_audio")),
    ("anthropic", "anthropic"),
    ("google", "google"),
    *((provider, provider) for provider in _OWN_SHAPE),
]


@pytest.mark.parametrize(("api", "provider"), ENDPOINTS)
def test_every_api_that_our_client_names_is_known(api: str, provider: str) -> None:
    assert named(api, provider) is not None


def test_grounding_searches_are_counted_and_not_kept() -> None:
    queries = {"groundingMetadata": {"webSearchQueries": ["a secret", "another"]}}
    answer = {
        "responseId": "g",
        "modelVersion": "gemini-3.5-flash",
        "candidates": [queries],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    }
    bare = without_content(SentUsage(provider="google", response=answer))
    assert "secret" not in repr(bare)
    (search,) = [part for part in read_usage(bare).requests[0].parts if part.metric is Metric.CALLS]
    assert (search.type, search.quantity) == ("google_search", 2)
