"""POST /llm/setup: metrics and a plan of models that prices what /llm/usage makes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.api.conftest import Api

MODELS = [
    {
        "provider": "openai",
        "model": "gpt-5.4-mini-2026-03-17",
        "prices": {"input": "2", "cached_input": "0.5", "output": 10},
    },
    {
        "provider": "bedrock",
        "model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "prices": {"input": 3, "output": "15"},
    },
]


def setup(api: Api, **more: Any) -> Any:
    body = {"plan_code": "models", "models": MODELS, "calls": {"web_search": "0.01"}, **more}
    return api.post("/llm/setup", {"setup": body})["setup"]


def prices(api: Api, plan: str = "models") -> dict[tuple[str, str], Decimal]:
    """Price of a million tokens by model and type."""
    charges = {each["billable_metric_code"]: each for each in api.get(f"/plans/{plan}")["plan"]["charges"]}
    return {
        (each["values"]["model"][0], each["values"]["type"][0]): Decimal(each["properties"]["amount"])
        * 1_000_000
        for each in charges["llm_tokens"]["filters"]
    }


def test_a_plan_prices_each_model_by_type(api: Api) -> None:
    made = setup(api, markup="1.5")
    assert made == {
        "billable_metrics": [
            {"code": "llm_tokens", "created": True},
            {"code": "llm_calls", "created": True},
        ],
        "plan": {"code": "models", "created": True},
    }
    mini, claude = "gpt-5.4-mini", "anthropic.claude-sonnet-4-5-20250929-v1:0"
    # A type without a price of its own costs what the one that contains it does.
    assert prices(api) == {
        (mini, "input"): 3,
        (mini, "cached_input"): Decimal("0.75"),
        (mini, "output"): 15,
        (claude, "input"): Decimal("4.5"),
        (claude, "cached_input"): Decimal("4.5"),
        (claude, "output"): Decimal("22.5"),
    }
    metric = api.get("/billable_metrics/llm_tokens")["billable_metric"]
    assert metric["field_name"] == "quantity"
    assert {each["key"]: each["values"] for each in metric["filters"]} == {
        "provider": ["openai", "aws"],
        "model": [mini, claude],
        "type": ["input", "cached_input", "output"],
    }


def test_the_second_time_nothing_changes_and_another_plan_extends_the_metric(api: Api) -> None:
    setup(api)
    again = setup(api)
    assert not any(each["created"] for each in [*again["billable_metrics"], again["plan"]])
    other = [
        {"provider": "mistral", "model": "codestral", "prices": {"input": 1, "output": 2, "reasoning": 4}}
    ]
    made = setup(api, plan_code="other", models=other)
    assert made["plan"] == {"code": "other", "created": True}
    metric = api.get("/billable_metrics/llm_tokens")["billable_metric"]
    values = {each["key"]: each["values"] for each in metric["filters"]}
    assert values["model"] == ["gpt-5.4-mini", "anthropic.claude-sonnet-4-5-20250929-v1:0", "codestral"]
    assert values["type"] == ["input", "cached_input", "output", "reasoning"]
    assert prices(api, "other") == {
        ("codestral", "input"): 1,
        ("codestral", "output"): 2,
        ("codestral", "reasoning"): 4,
    }


def test_a_model_without_prices_has_those_of_the_catalogue(api: Api) -> None:
    models = [{"provider": "openai", "model": "gpt-4o"}]
    setup(api, models=models, markup="2", calls=None)
    found = prices(api)
    assert found["gpt-4o", "input"] == 5
    assert found["gpt-4o", "output"] == 20
    assert found["gpt-4o", "cached_input"] == Decimal("2.5")


def test_what_is_wrong_is_named(api: Api) -> None:
    def details(**more: Any) -> Any:
        body = {"plan_code": "models", "models": MODELS, **more}
        return api.details("POST", "/llm/setup", {"setup": body})

    wrong = [{"provider": "openai", "prices": {"input": "x", "sugar": 1}}]
    assert details(models=wrong, markup=-1) == {
        "markup": ["value_is_out_of_range"],
        "models.0.model": ["value_is_mandatory"],
        "models.0.prices.sugar": ["value_is_invalid"],
        "models.0.prices.input": ["value_is_invalid"],
    }
    assert details(models=[]) == {"models": ["value_is_mandatory"]}
    unknown = [{"provider": "openai", "model": "no-such-model"}]
    assert details(models=unknown) == {"models.0.model": ["price_not_found"]}
    misspelt = {"provider": "opanai", "model": "gpt-4o"}
    assert details(models=[MODELS[0], misspelt]) == {"models.1.provider": ["provider_not_found"]}
    catalogue = [{"provider": "openai", "model": "gpt-4o"}]
    assert details(models=catalogue, currency="EUR") == {"currency": ["catalogue_is_in_usd"]}


def test_the_models_of_today_are_listed_and_taken_as_they_are(api: Api) -> None:
    found = api.get("/llm/current_models", provider="openai", per_page=1000)
    by_name = {each["model"]: each for each in found["models"]}
    assert by_name["gpt-5"] == {
        "provider": "openai",
        "model": "gpt-5",
        "prices": {"input": "1.25", "cached_input": "0.125", "output": "10.0"},
        "deprecated": False,
    }
    assert not [name for name in by_name if name.endswith("-") or "2024-0" in name], "names of usage alone"
    setup(api, models=[by_name["gpt-5"], by_name["o3"]], plan_code="today")
    assert {model for model, _ in prices(api, "today")} == {"gpt-5", "o3"}
    everybody = api.get("/llm/current_models", per_page=2, page=2)
    assert everybody["meta"]["total_count"] > found["meta"]["total_count"] > 50
    assert [each["provider"] for each in everybody["models"]] == ["anthropic", "anthropic"]
    assert api.get("/llm/current_models", provider="nobody")["models"] == []


def test_a_model_that_is_no_longer_offered_is_sold_where_it_is_asked_for(api: Api) -> None:
    offered = api.get("/llm/current_models", provider="avian")["models"]
    every = api.get("/llm/current_models", provider="avian", include_deprecated=True)["models"]
    found = [each for each in every if each["deprecated"]]
    assert found
    assert offered == [each for each in every if not each["deprecated"]]
    wanted = {"plan_code": "old", "models": found[:1]}
    without = {"plan_code": "old", "models": [{**found[0], "prices": None}]}
    assert api.details("POST", "/llm/setup", {"setup": without}) == {
        "models.0.model": ["model_is_deprecated"]
    }
    api.post("/llm/setup", {"setup": {**without, "include_deprecated": True}})
    assert not api.post("/llm/setup", {"setup": wanted})["setup"]["plan"]["created"]
