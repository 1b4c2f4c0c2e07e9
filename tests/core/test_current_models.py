"""Which models of the catalogue price lists of today are made of."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from permille.core.llm.catalogue import genai_prices
from permille.core.llm.catalogue.effective import DatedCatalogue, EffectiveCatalogue
from permille.core.llm.current_models import current_models, providers
from permille.core.llm.model_name import name_model
from permille.core.llm.parts import TokenType
from permille.store import shipped_prices

TODAY = date(2026, 11, 29)


def catalogue(*models: tuple[str, dict[str, int]]) -> EffectiveCatalogue:
    document = [
        {
            "id": "acme",
            "name": "Acme",
            "api_pattern": "x",
            "models": [
                {"id": name, "match": {"starts_with": name}, "prices": prices} for name, prices in models
            ],
        }
    ]
    return EffectiveCatalogue(((DatedCatalogue(genai_prices.read_catalogue(document, label="own")),),))


def test_models_with_input_and_output_by_their_names() -> None:
    both = {"input_mtok": 3, "output_mtok": 9}
    prices = catalogue(("b", both), ("a", both), ("embed", {"input_mtok": 1}), ("ft-", both), ("a-2", both))
    found = current_models(prices, "acme", on=TODAY)
    assert [each.model for each in found] == ["a", "b"], "a-2 is priced as a, ft- is a beginning"
    assert found[0].prices == {TokenType.INPUT: Decimal(3), TokenType.OUTPUT: Decimal(9)}
    assert providers(prices, on=TODAY) == ["acme"]
    assert providers(catalogue(("embed", {"input_mtok": 1})), on=TODAY) == []


def test_usage_of_what_is_shipped_has_the_names_that_are_offered() -> None:
    shipped = EffectiveCatalogue(((DatedCatalogue(shipped_prices.catalogue()),),))
    found = current_models(shipped, None, on=TODAY)
    assert len(found) > 1_000
    for each in found:
        named = name_model(each.provider, each.model)
        assert (named.provider, named.model) == (each.provider, each.model)
        assert {TokenType.INPUT, TokenType.OUTPUT} <= each.prices.keys()
