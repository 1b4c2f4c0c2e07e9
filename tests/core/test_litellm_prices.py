"""LiteLLM's price file: names, tiers, sizes and regions as it writes them, and what of it is left out."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.llm.catalogue.effective import DatedCatalogue, EffectiveCatalogue
from permille.core.llm.catalogue.genai_prices import read_catalogue as read_genai_prices
from permille.core.llm.catalogue.litellm import read_catalogue
from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.rows import Conditions, Measure, Rate, UnreadablePricesError
from permille.store.price_files import PriceFile

ON = date(2026, 11, 29)
OPENAI = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_input_tokens": 1_000_000,
    "cache_read_input_token_cost": "5e-07",
    "input_cost_per_token": "2e-06",
    "input_cost_per_token_batches": "1e-06",
    "input_cost_per_token_above_272k_tokens": "4e-06",
    "input_cost_per_token_above_272k_tokens_priority": "7e-06",
    "output_cost_per_token": "8e-06",
    "input_cost_per_audio_token": "3.2e-05",
    "cache_creation_input_token_cost_above_1hr": "1.1e-05",
}
INPUT, OUTPUT = Measure("llm_tokens", "input"), Measure("llm_tokens", "output")


def read(**models: Any) -> Catalogue:
    """The catalogue of a file in which a price that is a text is a number."""
    numbers = {
        name: {key: Decimal(value) if _is_number(value) else value for key, value in entry.items()}
        for name, entry in models.items()
    }
    return read_catalogue(json.loads(json.dumps(numbers, default=str), parse_float=Decimal), label="litellm")


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value[0].isdigit()


def rate(
    catalogue: Catalogue, name: str, measure: Measure = INPUT, provider: str = "openai", **conditions: Any
) -> Rate | None:
    found = catalogue.price(provider, name, measure, Conditions(**conditions), on=ON)
    return found.row.rate if found else None


def unread(catalogue: Catalogue) -> dict[str, int]:
    return {each.what: each.models_count for each in catalogue.unread}


def test_a_key_says_the_type_the_tier_and_the_size_of_the_input() -> None:
    found = read(**{"gpt-9": OPENAI})
    for measure, conditions, amount in (
        (INPUT, {}, "2"),
        (Measure("llm_tokens", "cached_input"), {}, "0.5"),
        (INPUT, {"tier": "batch"}, "1"),
        (INPUT, {"context": 272_000}, "4"),
        (INPUT, {"context": 256_000}, "2"),
        (INPUT, {"context": 512_000, "tier": "priority"}, "7"),
        (OUTPUT, {}, "8"),
        (Measure("llm_tokens", "reasoning"), {}, "8"),
        (Measure("llm_tokens", "input", "audio"), {}, "32"),
        (Measure("llm_tokens", "cache_write_1h"), {}, "11"),
    ):
        assert rate(found, "gpt-9", measure, "openai", **conditions) == Rate(Decimal(amount), 1_000_000)
    assert found.unread == ()


@pytest.mark.parametrize(
    ("key", "sent_by", "provider", "name", "region"),
    [
        ("gpt-9", "openai", "openai", "gpt-9", ""),
        ("azure/gpt-9", "azure", "azure", "gpt-9", ""),
        ("azure/eu/gpt-9", "azure", "azure", "gpt-9", "eu"),
        ("azure_ai/gpt-9", "azure_ai", "azure", "gpt-9", ""),
        ("eu.anthropic.claude-9-v1:0", "bedrock_converse", "aws", "anthropic.claude-9-v1:0", "eu"),
        ("bedrock/us-east-1/amazon.nova-v1:0", "bedrock", "aws", "amazon.nova-v1:0", "us-east-1"),
        ("gemini/gemini-9", "gemini", "google", "gemini-9", ""),
        ("vertex_ai/claude-9@20261001", "vertex_ai-anthropic_models", "google", "claude-9@20261001", ""),
        ("vertex_ai/claude-9@20261001", "vertex_ai-anthropic_models", "google", "claude-9", ""),
        ("xai/grok-9", "xai", "x-ai", "grok-9", ""),
        ("fireworks_ai/accounts/fireworks/models/kimi", "fireworks_ai", "fireworks", "kimi", ""),
        ("together_ai/Qwen/Qwen9", "together_ai", "together_ai", "qwen/qwen9", ""),
        ("groq/openai/gpt-oss", "groq", "groq", "openai/gpt-oss", ""),
        ("newcomer/model", "newcomer", "newcomer", "model", ""),
        ("claude-9-20261001", "anthropic", "anthropic", "claude-9", ""),
    ],
)
def test_a_name_is_the_one_that_usage_has(
    key: str, sent_by: str, provider: str, name: str, region: str
) -> None:
    found = read(**{key: {"litellm_provider": sent_by, "input_cost_per_token": "3e-06"}})
    assert rate(found, name, provider=provider, region=region) == Rate(Decimal(3), 1_000_000)
    if region:
        assert rate(found, name, provider=provider) is None


def test_an_alias_has_the_prices_of_its_model_and_a_date_may_be_left_out_where_all_cost_the_same() -> None:
    other = {**OPENAI, "input_cost_per_token": "9e-06"}
    found = read(
        **{
            "gpt-9-2026-10-01": OPENAI,
            "gpt-9-2026-11-01": OPENAI,
            "gpt-8-2026-10-01": OPENAI,
            "gpt-8-2026-11-01": other,
            "gpt-latest": {"alias_of": "gpt-8-2026-11-01"},
            "gpt-lost": {"alias_of": "gone"},
        }
    )
    assert rate(found, "gpt-9") == Rate(Decimal(2), 1_000_000)
    assert rate(found, "gpt-8-2026-10-01") == Rate(Decimal(2), 1_000_000)
    assert rate(found, "gpt-8") is None
    assert rate(found, "gpt-latest") == Rate(Decimal(9), 1_000_000)
    assert unread(found) == {"alias_of": 1, "dated names with different prices": 1}


def test_regions_and_the_fast_tier_are_multiples_of_the_standard_price() -> None:
    claude = {
        "litellm_provider": "anthropic",
        "input_cost_per_token": "5e-06",
        "input_cost_per_token_batches": "2.5e-06",
        "provider_specific_entry": {"us": 1.1, "fast": 2},
    }
    eu = {**OPENAI, "regional_processing_uplift_multiplier_eu": "1.1"}
    found = read(**{"claude-9": claude, "gpt-9": eu})
    for conditions, amount in (
        ({"region": "us"}, "5.5"),
        ({"tier": "fast"}, "10"),
        ({"tier": "fast", "region": "us"}, "11"),
        ({"tier": "batch", "region": "us"}, "2.75"),
        ({"region": "eu"}, "5"),
    ):
        assert rate(found, "claude-9", INPUT, "anthropic", **conditions) == Rate(Decimal(amount), 1_000_000)
    assert rate(found, "gpt-9", region="eu", context=272_000) == Rate(Decimal("4.4"), 1_000_000)


def test_steps_searches_pages_and_seconds() -> None:
    step = {"input_cost_per_token": "5e-08", "range": [0, 256_000]}
    sizes = {f"search_context_size_{size}": "0.01" for size in ("low", "medium", "high")}
    found = read(
        **{
            "dashscope/qwen": {
                "litellm_provider": "dashscope",
                "tiered_pricing": [step, {"input_cost_per_token": "2e-07", "range": [256_000, 1_000_000]}],
            },
            "gpt-9": {**OPENAI, "search_context_cost_per_query": sizes},
            "mistral/ocr": {"litellm_provider": "mistral", "mode": "ocr", "ocr_cost_per_page": "0.003"},
            "whisper": {
                "litellm_provider": "openai",
                "mode": "audio_transcription",
                "input_cost_per_second": "0.0001",
            },
            "rerank": {"litellm_provider": "cohere", "mode": "rerank", "input_cost_per_query": "0.002"},
        }
    )
    assert rate(found, "qwen", provider="dashscope") == Rate(Decimal("0.05"), 1_000_000)
    assert rate(found, "qwen", provider="dashscope", context=256_000) == Rate(Decimal("0.2"), 1_000_000)
    assert rate(found, "gpt-9", Measure("llm_calls", "web_search")) == Rate(Decimal("0.01"), 1)
    assert rate(found, "ocr", Measure("llm_pages", "document"), "mistral") == Rate(Decimal("0.003"), 1)
    assert rate(found, "whisper", Measure("llm_seconds", "audio_input")) == Rate(Decimal("0.36"), 3_600)
    assert rate(found, "rerank", Measure("llm_calls", "rerank_search"), "cohere") == Rate(Decimal("0.002"), 1)


def test_what_is_not_understood_is_left_out_and_reported() -> None:
    sizes = {"search_context_size_low": "0.01", "search_context_size_high": "0.02"}
    odd = {
        **OPENAI,
        "input_cost_per_token_decisions": "1e-06",
        "input_cost_per_token_above_300k_tokens": "1e-06",
        "input_cost_per_second": "0.1",
        "output_cost_per_reasoning_token": 0,
        "citation_cost_per_token": {"much": True},
        "search_context_cost_per_query": sizes,
        "off_peak_pricing": {"windows": []},
        "input_cost_per_token_cache_hit": "6e-07",
        "tiered_pricing": [{"range": [1, 5], "input_cost_per_token": "1e-06"}, {}],
    }
    found = read(
        **{
            "gpt-9": odd,
            "gemini/gemini-9": {**OPENAI, "litellm_provider": "gemini"},
            "gemini-9": {**OPENAI, "litellm_provider": "vertex_ai", "output_cost_per_token": "9e-06"},
            "azure/hd/1024-x-1024/dall-e": {"litellm_provider": "azure", "input_cost_per_token": "1e-06"},
            "nobody": {"input_cost_per_token": "1e-06"},
            "sample_spec": {"litellm_provider": "one of many", "input_cost_per_token": "7"},
            "free": {
                **OPENAI,
                "search_context_cost_per_query": sizes,
                "search_free_requests": {"count": 1_500},
            },
        }
    )
    assert unread(found) == {
        "citation_cost_per_token": 1,
        "input_cost_per_second": 1,
        "input_cost_per_token_above_300k_tokens": 1,
        "input_cost_per_token_decisions": 1,
        "litellm_provider": 1,
        "name": 1,
        "off_peak_pricing": 1,
        "output_cost_per_reasoning_token: 0": 1,
        "search_context_cost_per_query": 1,
        "search_free_requests": 1,
        "tiered_pricing": 2,
        "two prices of the same": 2,
    }
    assert rate(found, "gpt-9", Measure("llm_tokens", "reasoning")) == Rate(Decimal(8), 1_000_000)
    assert rate(found, "gpt-9", Measure("llm_calls", "web_search")) is None
    # Two prices of one name: the one that all agree on counts, the others don't.
    assert rate(found, "gemini-9", provider="google") == Rate(Decimal(2), 1_000_000)
    assert rate(found, "gemini-9", OUTPUT, "google") is None
    assert rate(found, "dall-e", provider="azure") is None


@pytest.mark.parametrize(
    "document", [[], {"gpt-9": "much"}, {}, {"gpt-9": {"litellm_provider": "openai", "mode": "chat"}}]
)
def test_what_is_no_such_file_is_refused(document: Any) -> None:
    with pytest.raises(UnreadablePricesError, match=r"the file"):
        read_catalogue(document, label="litellm")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.text(max_size=5)
    | st.sampled_from(sorted(OPENAI)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["a", "azure/eu/a", "bedrock/us-east-1/a", "ft:a:b", "arn:aws:x/a", "", "a@20261001", "/", "b:0"]
)
KEYS = st.sampled_from(
    [
        *OPENAI,
        "alias_of",
        "tiered_pricing",
        "search_context_cost_per_query",
        "provider_specific_entry",
        "x_cost",
    ]
)


@given(
    document=st.dictionaries(
        NAMES | st.text(max_size=5), st.dictionaries(KEYS, JSON, max_size=5) | JSON, max_size=4
    )
)
def test_whatever_is_in_a_file_is_read_or_refused(document: Any) -> None:
    for read_file in (read_catalogue, read_genai_prices):
        for each in (document, [document], [{"id": "x", "models": [document]}]):
            try:
                found = read_file(each, label="any")
            except UnreadablePricesError:
                continue
            assert all(
                row.rate.amount >= 0 for of in found.providers for model in of.models for row in model.rows
            )


WHOLE: dict[str, Any] = {
    "id": "acme",
    "api_pattern": "acme",
    "provider_match": {"or": [{"equals": "acme"}]},
    "model_match": {"regex": "^a"},
    "fallback_model_providers": ["openai"],
    "models": [
        {
            "id": "a",
            "match": {"and": [{"contains": "a"}, {"regex": "a|b"}]},
            "prices": [
                {"prices": {"input_mtok": {"base": 1, "tiers": [{"start": 200_000, "price": 2}]}}},
                {"constraint": {"start_date": "2026-03-01"}, "prices": {"output_mtok": 3, "own_key": 1}},
                {
                    "constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00Z"},
                    "prices": {"input_mtok": 1},
                },
            ],
            "price_variants": [
                {"when": {"processing": "batch"}, "prices": {"input_mtok": 1}},
                {"when": {"weather": "fine"}, "prices": {"input_mtok": 1}},
            ],
        }
    ],
}
Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> list[Place]:
    """Where there is a value in a document, from the outside in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(found for key, each in inner for found in places(each, (*at, key)))]


def with_value(document: Any, at: Place, value: Any) -> Any:
    """A document with another value in one place."""
    changed: list[Any] = deepcopy([document])
    holder: Any = changed
    key: str | int = 0
    for each in at:
        holder, key = holder[key], each
    holder[key] = value
    return changed[0]


ODD: list[Any] = [
    None,
    [],
    {},
    "",
    "a",
    0,
    -1,
    Decimal("Infinity"),
    Decimal("1e99"),
    [[]],
    {"a": 1},
    [{"a": []}],
]


@pytest.mark.parametrize("at", places(WHOLE), ids=str)
def test_any_value_in_any_place_of_genai_prices_file_is_read_or_refused(at: Place) -> None:
    patterns = ["a{99999999999999999999}", "(" * 900, "["]
    for value in [*ODD, *patterns]:
        with suppress(UnreadablePricesError):
            found = read_genai_prices([with_value(WHOLE, at, value)], label="any")
            assert all(row.rate.amount >= 0 for each in found.providers[0].models for row in each.rows)
    read_genai_prices([WHOLE], label="whole")


def test_a_model_with_an_empty_list_of_prices_is_refused() -> None:
    with pytest.raises(UnreadablePricesError, match="empty list of prices"):
        read_genai_prices([with_value(WHOLE, ("models", 0, "prices"), [])], label="any")


@pytest.mark.parametrize("amount", ["1e999999999", "1e-999999999", "1e99999999999999999999", "-1", "NaN"])
def test_a_price_that_is_none_is_left_out_at_once(amount: str) -> None:
    known = b'"litellm_provider": "acme", "input_cost_per_token": 1'
    file = PriceFile("litellm", b'{"acme/a": {%s, "output_cost_per_token": %s}}' % (known, amount.encode()))
    try:
        assert [each.what for each in file.read("x").unread] == ["output_cost_per_token"]
    except UnreadablePricesError as error:
        assert "no JSON" in str(error)


def test_a_price_of_the_usages_own_tier_goes_before_the_standard_one_of_the_first_source() -> None:
    own = {"id": "gpt-9", "match": {"equals": "gpt-9"}, "prices": {"input_mtok": "2.5"}}
    first = read_genai_prices([{"id": "openai", "models": [own]}], label="first")
    later = {**own, "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": "0.1"}}]}
    second = read_genai_prices([{"id": "openai", "models": [later]}], label="later")
    litellm = read(**{"gpt-9": OPENAI})

    def found(tier: str, *sources: list[DatedCatalogue]) -> tuple[str, Decimal] | None:
        prices = EffectiveCatalogue(tuple(tuple(each) for each in sources))
        price = prices.price("openai", "gpt-9", INPUT, Conditions(tier), on=ON)
        return (price.version, price.row.rate.amount) if price else None

    both = [DatedCatalogue(first)], [DatedCatalogue(litellm)]
    assert found("standard", *both) == ("first", Decimal("2.5"))
    assert found("batch", *both) == ("litellm", Decimal(1))
    assert found("flex", *both) == ("first", Decimal("2.5"))
    # A version that holds only later never wins over one that holds.
    waiting = [DatedCatalogue(first), DatedCatalogue(second, date(2026, 12, 1))]
    assert found("batch", waiting) == ("first", Decimal("2.5"))
