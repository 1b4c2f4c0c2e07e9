"""The models of the catalogue that a price list can be made of: those whose tokens have a price on a date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal

from permille.core.llm.catalogue.effective import EffectiveCatalogue
from permille.core.llm.catalogue.prices import Catalogue, PriceSource
from permille.core.llm.catalogue.rows import Conditions, Measure
from permille.core.llm.model_name import name_model
from permille.core.llm.parts import Metric, TokenType
from permille.core.money import exact
from permille.core.record import Record

PRICE_OF = 1_000_000
"""Prices of tokens are for so many of them."""
_INPUT = Measure(str(Metric.TOKENS), str(TokenType.INPUT))
_OUTPUT = Measure(str(Metric.TOKENS), str(TokenType.OUTPUT))


class PricedModel(Record, kw_only=True):
    """A model of a provider, and what a million of its tokens costs by type."""

    provider: str
    model: str
    prices: Mapping[TokenType, Decimal]
    is_deprecated: bool = False
    """Whether its provider no longer offers it to new users."""


def token_prices(prices: PriceSource, provider: str, model: str, *, on: date) -> dict[TokenType, Decimal]:
    """What a million tokens costs on a date at the standard tier, by the types that have a price of their own."""
    found = {}
    for kind in TokenType:
        measure = Measure(str(Metric.TOKENS), str(kind))
        price = prices.price(provider, model, measure, Conditions(), on=on)
        if price is not None and price.row.measure == measure:
            with exact():
                found[kind] = price.row.rate.of(Decimal(PRICE_OF))
    return found


def providers(prices: EffectiveCatalogue, *, on: date) -> list[str]:
    """The providers that have such models, by name."""
    return sorted({provider for provider, _ in _named(prices.current(on), on)})


def current_models(
    prices: EffectiveCatalogue, provider: str | None, *, on: date, include_deprecated: bool = False
) -> list[PricedModel]:
    """The models of a provider, or all, by name: under the names that usage is counted by, so no snapshots and fine-tunes."""
    names = {each for each in _named(prices.current(on), on) if provider in {None, each[0]}}
    found = []
    for of, model in sorted(names):
        is_deprecated = prices.is_deprecated(of, model, on=on)
        if include_deprecated or not is_deprecated:
            found.append(
                PricedModel(
                    provider=of,
                    model=model,
                    prices=token_prices(prices, of, model, on=on),
                    is_deprecated=is_deprecated,
                )
            )
    return found


def _named(catalogues: Iterable[Catalogue], on: date) -> Iterator[tuple[str, str]]:
    for catalogue in catalogues:
        for provider in catalogue.providers:
            for model in provider.models:
                measures = {row.measure for row in model.rows if row.is_valid(on)}
                if {_INPUT, _OUTPUT} <= measures and _is_own_name(catalogue, provider.id, model.id):
                    yield provider.id, model.id


def _is_own_name(catalogue: Catalogue, provider: str, model: str) -> bool:
    """Whether usage of the model has this name, and is priced as this model. A name with a dash at its end is a beginning of others."""
    if model.endswith("-"):
        return False
    named = name_model(provider, model)
    found = catalogue.model(provider, model)
    return (named.provider, named.model) == (provider, model) and found is not None and found.id == model
