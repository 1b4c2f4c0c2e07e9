"""Which models of the catalogue price lists of today are made of."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from decimal import Decimal

from permille.core.llm.catalogue import genai_prices, litellm
from permille.core.llm.catalogue.effective import DatedCatalogue, EffectiveCatalogue
from permille.core.llm.current_models import current_models, providers
from permille.core.llm.model_name import name_model
from permille.core.llm.parts import TokenType
from permille.store import shipped_prices

TODAY = date(2026, 11, 29)


BOTH = {"input_mtok": 3, "output_mtok": 9}


def catalogue(*models: tuple[str, dict[str, int]], deprecated: Collection[str] = ()) -> EffectiveCatalogue:
    document = [
        {
            "id": "acme",
            "name": "Acme",
            "api_pattern": "x",
            "models": [
                {
                    "id": name,
                    "match": {"starts_with": name},
                    "prices": prices,
                    **({"deprecated": True} if name in deprecated else {}),
                }
                for name, prices in models
            ],
        }
    ]
    return EffectiveCatalogue(((DatedCatalogue(genai_prices.read_catalogue(document, label="own")),),))


def test_models_with_input_and_output_by_their_names() -> None:
    prices = catalogue(("b", BOTH), ("a", BOTH), ("embed", {"input_mtok": 1}), ("ft-", BOTH), ("a-2", BOTH))
    found = current_models(prices, "acme", on=TODAY)
    assert [each.model for each in found] == ["a", "b"], "a-2 is priced as a, ft- is a beginning"
    assert found[0].prices == {TokenType.INPUT: Decimal(3), TokenType.OUTPUT: Decimal(9)}
    assert providers(prices, on=TODAY) == ["acme"]
    assert providers(catalogue(("embed", {"input_mtok": 1})), on=TODAY) == []


def test_models_that_are_no_longer_offered_are_listed_where_they_are_asked_for() -> None:
    of_litellm = litellm.read_catalogue(
        {
            name: {
                "litellm_provider": "openai",
                "input_cost_per_token": 1,
                "output_cost_per_token": 2,
                **more,
            }
            for name, more in {
                "old": {"deprecation_date": "2026-11-29"},
                "new": {"deprecation_date": "2026-11-30"},
                "odd": {"deprecation_date": "some day"},
                "part-2025-01-01": {"deprecation_date": "2026-01-01"},
                "part-2026-01-01": {},
                "gone-2025-01-01": {"deprecation_date": "2026-01-01"},
                "gone-2026-01-01": {"deprecation_date": "2026-02-01"},
            }.items()
        },
        label="litellm",
    )
    prices = EffectiveCatalogue(
        (
            (DatedCatalogue(of_litellm),),
            catalogue(("b", BOTH), ("old-b", {**BOTH}), deprecated={"old-b"}).sources[0],
        )
    )

    def names(*, include_deprecated: bool) -> dict[str, bool]:
        found = current_models(prices, None, on=TODAY, include_deprecated=include_deprecated)
        return {each.model: each.is_deprecated for each in found}

    assert names(include_deprecated=False) == dict.fromkeys(("b", "new", "odd", "part"), False)
    every = names(include_deprecated=True)
    assert sorted(name for name, gone in every.items() if gone) == ["gone", "old", "old-b"]
    assert "deprecation_date" in {each.what for each in of_litellm.unread}


def test_usage_of_what_is_shipped_has_the_names_that_are_offered() -> None:
    shipped = EffectiveCatalogue(((DatedCatalogue(shipped_prices.catalogue()),),))
    found = current_models(shipped, None, on=TODAY)
    assert len(found) > 1_000
    for each in found:
        named = name_model(each.provider, each.model)
        assert (named.provider, named.model) == (each.provider, each.model)
        assert {TokenType.INPUT, TokenType.OUTPUT} <= each.prices.keys()


def test_what_openai_answers_with_a_short_date_is_billed_as_the_model_that_was_asked_for() -> None:
    """Each costs what the name does; dates with prices of their own stay names of their own."""
    shipped = shipped_prices.catalogue()
    for name, base, date_of in (
        ("gpt-4-0613", "gpt-4", "0613"),
        ("gpt-4-32k-0314", "gpt-4-32k", "0314"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo", "0125"),
        ("gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo-16k", "0613"),
    ):
        for provider in ("openai", "azure"):
            named = name_model(provider, name)
            assert (named.model, named.snapshot) == (base, date_of)
        assert shipped.model("openai", name) is shipped.model("openai", base)
    for own in ("gpt-3.5-turbo-1106", "gpt-3.5-turbo-0613", "gpt-4-1106-preview"):
        assert name_model("openai", own).model == own
