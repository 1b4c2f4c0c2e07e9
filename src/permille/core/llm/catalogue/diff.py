"""What another version of the catalogue would change: prices on a date that are new, gone or others, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.rows import Conditions, Measure, Rate
from permille.core.money import exact


class PriceOf(NamedTuple):
    """What a price is the price of."""

    provider: str
    model: str
    measure: Measure
    conditions: Conditions

    @property
    def text(self) -> str:
        """What is priced of the model: `llm_tokens cached_input text batch above 200,000`."""
        return what_is_priced(self.measure, self.conditions)


class PriceChange(NamedTuple):
    """A price in one version and in another; None where there is none."""

    of: PriceOf
    before: Rate | None
    after: Rate | None

    @property
    def share(self) -> Decimal | None:
        """By how much of itself the price changes; None for one that is new or gone, or was 0."""
        if self.before is None or self.after is None or not self.before.amount:
            return None
        with exact():
            return self.after.of(Decimal(1)) / self.before.of(Decimal(1)) - 1


def what_is_priced(measure: Measure, conditions: Conditions) -> str:
    """A measure and its conditions in words."""
    above = f"above {conditions.context:,}" if conditions.context else ""
    words = (measure.metric, measure.type, measure.modality, conditions.tier, conditions.region, above)
    return " ".join(word for word in words if word)


def prices_on(catalogue: Catalogue, on: date) -> dict[PriceOf, Rate]:
    """All prices of a UTC date."""
    return {
        PriceOf(provider.id, model.id, row.measure, row.conditions): row.rate
        for provider in catalogue.providers
        for model in provider.models
        for row in model.rows
        if row.is_valid(on)
    }


def changes(before: Catalogue, after: Catalogue, *, on: date) -> list[PriceChange]:
    """What is priced otherwise on a date, in order."""
    return sorted(_changes(prices_on(before, on), prices_on(after, on)), key=lambda each: each.of)


def _changes(before: Mapping[PriceOf, Rate], after: Mapping[PriceOf, Rate]) -> Iterator[PriceChange]:
    with exact():
        for of in before.keys() | after.keys():
            old, new = before.get(of), after.get(of)
            if old is None or new is None or old.amount * new.per != new.amount * old.per:
                yield PriceChange(of, old, new)
