"""The prices that hold for an organization: approved versions of price files, each from a date on, by several sources.

On a date the version of a source that was approved last of those that hold by then counts. The first source that has a
price of the usage's own tier counts, then the first that has any price of it. Where none has, a version that holds only
later may: what was unknown is priced once it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from typing import NamedTuple

from permille.core.llm.catalogue.prices import Catalogue, FoundPrice
from permille.core.llm.catalogue.rows import Conditions, Measure
from permille.core.remembered import remembered

_PRICES_REMEMBERED = 16_384


class DatedCatalogue(NamedTuple):
    """A version, and the UTC date from which on it holds; None: always."""

    catalogue: Catalogue
    from_: date | None = None

    def holds(self, on: date) -> bool:
        """Whether it holds on a date."""
        return self.from_ is None or self.from_ <= on


Versions = Sequence[DatedCatalogue]


@dataclass(frozen=True, eq=False, repr=False)
class EffectiveCatalogue:
    """Versions by source: sources in the order in which they count, versions in the order of their approval."""

    sources: tuple[tuple[DatedCatalogue, ...], ...]
    price_dates: frozenset[date] = field(init=False, repr=False)
    """The UTC dates at which any price may change."""

    def __post_init__(self) -> None:
        """Leave out versions that never count, and remember when prices change."""
        object.__setattr__(self, "sources", tuple(in_force(each) for each in self.sources if each))
        dates = set(chain.from_iterable(each.catalogue.price_dates for each in self._all()))
        object.__setattr__(self, "price_dates", frozenset(dates | self._beginnings()))
        object.__setattr__(self, "price", remembered(_PRICES_REMEMBERED)(self.price))

    def price(
        self, provider: str, name: str, measure: Measure, conditions: Conditions, *, on: date
    ) -> FoundPrice | None:
        """What a measure of a model costs on a UTC date; None where no version has such a price."""
        of_another_tier: FoundPrice | None = None
        for catalogue in self.current(on):
            found = catalogue.price(provider, name, measure, conditions, on=on)
            if found is not None and found.row.conditions.tier == conditions.tier:
                return found
            of_another_tier = of_another_tier or found
        if of_another_tier is not None:
            return of_another_tier
        of_later = (each.price(provider, name, measure, conditions, on=on) for each in self.later(on))
        return next((each for each in of_later if each is not None), None)

    def current(self, on: date) -> Iterator[Catalogue]:
        """The catalogue of each source that holds on a date."""
        yield from (of[nth].catalogue for nth, of in self._places(on) if nth >= 0)

    def later(self, on: date) -> Iterator[Catalogue]:
        """Those that hold only after a date."""
        yield from (each.catalogue for nth, of in self._places(on) for each in of[nth + 1 :])

    def _places(self, on: date) -> Iterator[tuple[int, tuple[DatedCatalogue, ...]]]:
        for of in self.sources:
            yield max((nth for nth, each in enumerate(of) if each.holds(on)), default=-1), of

    def dates_of(self, provider: str, name: str) -> set[date]:
        """The UTC dates at which a price of a model may change."""
        return self._beginnings().union(*(each.catalogue.dates_of(provider, name) for each in self._all()))

    def has_provider(self, name: str, *, on: date) -> bool:
        """Whether any model of a provider has prices on a UTC date."""
        return any(each.has_provider(name, on=on) for each in self.current(on))

    def is_deprecated(self, provider: str, name: str, *, on: date) -> bool:
        """Whether any source says of a model that it is no longer offered on a UTC date."""
        return any(each.is_deprecated(provider, name, on=on) for each in self.current(on))

    def _all(self) -> Iterator[DatedCatalogue]:
        return chain.from_iterable(self.sources)

    def _beginnings(self) -> set[date]:
        return {each.from_ for each in self._all() if each.from_ is not None}


def in_force(versions: Iterable[DatedCatalogue]) -> tuple[DatedCatalogue, ...]:
    """The versions that count on some date, in the order of their dates: one holds until a later approved one does."""
    found: list[DatedCatalogue] = []
    for each in versions:
        while found and (
            each.from_ is None or (found[-1].from_ is not None and found[-1].from_ >= each.from_)
        ):
            found.pop()
        found.append(each)
    return tuple(found)
