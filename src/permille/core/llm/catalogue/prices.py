"""The catalogue as one value: which model a name means, and what a measure of it costs on a date.

A measure without a price of its own has that of what it is a part of: the order is the one in which usage is folded
into metrics that list fewer types. So an hour's cache write costs what a cache write does where no price is named,
and a cache write what input does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

from permille.core.llm import fold
from permille.core.llm.catalogue.match import MatchRule
from permille.core.llm.catalogue.rows import (
    NO_REGION,
    OFF_PEAK,
    STANDARD,
    TEXT,
    Conditions,
    Measure,
    PriceRow,
    UnreadablePricesError,
    UnreadPrices,
)
from permille.core.llm.parts import CallType, MeasureType
from permille.core.record import Record
from permille.core.remembered import remembered

PARENTS: Mapping[str, str] = {
    **{str(kind): str(parent) for kind, parent in fold.PARENTS.items()},
    CallType.GOOGLE_SEARCH: CallType.WEB_SEARCH,
    MeasureType.AUDIO_INPUT: "audio",
    "annotated_document": MeasureType.DOCUMENT,
}
"""A type -> the type that it is a part of."""

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_NAMES_REMEMBERED = 4096

MODELS_MAX = 20_000
ROWS_MAX = 200_000
RULES_WORK_MAX = 1_000_000
"""What looking a name up may take, in ways of a regular expression: 20 milliseconds or so."""


class PriceWindow(NamedTuple):
    """Minutes of the day, in UTC, in which the standard price holds where another one is asked off-peak."""

    from_: int
    to: int

    def has(self, minute: int) -> bool:
        """Whether a minute of the day is in it. It may go over midnight."""
        if self.to < self.from_:
            return minute >= self.from_ or minute < self.to
        return self.from_ <= minute < self.to


def minute_of_day(at: datetime) -> int:
    """The minute of the day of an instant, in UTC."""
    moment = at.astimezone(UTC)
    return moment.hour * 60 + moment.minute


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """A model of a provider, and its prices."""

    id: str
    rule: MatchRule
    rows: tuple[PriceRow, ...]
    windows: tuple[PriceWindow, ...] = ()
    deprecated_from: date | None = None
    """The UTC date from which on its provider no longer offers it to new users; None: nobody says so."""
    by_measure: Mapping[Measure, Sequence[PriceRow]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Index the rows by what they are the price of."""
        index: dict[Measure, list[PriceRow]] = {}
        for row in self.rows:
            index.setdefault(row.measure, []).append(row)
        object.__setattr__(self, "by_measure", index)

    def tier_at(self, tier: str, at: datetime) -> str:
        """The tier at an instant: usage without prices of its own tier is off-peak outside the model's windows."""
        has_own = tier != STANDARD and any(row.conditions.tier == tier for row in self.rows)
        if has_own or not self.windows:
            return tier
        minute = minute_of_day(at)
        return STANDARD if any(window.has(minute) for window in self.windows) else OFF_PEAK

    def row(self, measure: Measure, conditions: Conditions, on: date) -> PriceRow | None:
        """The price of a measure on a UTC date, under conditions; None where there is none."""
        for each in fallbacks(measure):
            rows = [row for row in self.by_measure.get(each, ()) if row.is_valid(on)]
            for tier in dict.fromkeys((conditions.tier, STANDARD)):
                for region in dict.fromkeys((conditions.region, NO_REGION)):
                    found = _by_context(rows, Conditions(tier, conditions.context, region))
                    if found is not None:
                        return found
        return None

    def changes(self) -> set[date]:
        """The UTC dates at which a price of it changes, begins or ends."""
        return {at for row in self.rows for at in (row.valid_from, row.valid_to) if at is not None}


def _by_context(rows: Sequence[PriceRow], wanted: Conditions) -> PriceRow | None:
    fitting = [
        row
        for row in rows
        if (row.conditions.tier, row.conditions.region) == (wanted.tier, wanted.region)
        and row.conditions.context <= wanted.context
    ]
    return max(fitting, key=lambda row: row.conditions.context, default=None)


def fallbacks(measure: Measure) -> Iterator[Measure]:
    """The measures whose price it may have: its own, those of what it is a part of, then the same of text."""
    for modality in dict.fromkeys((measure.modality, TEXT)):
        kind: str | None = measure.type
        while kind is not None:
            yield Measure(measure.metric, kind, modality)
            kind = PARENTS.get(kind)


@dataclass(frozen=True, slots=True)
class ProviderPrices:
    """A provider, what it and its addresses are called, and its models in the order in which they are looked for."""

    id: str
    models: tuple[ModelPrices, ...]
    api_pattern: str = ""
    provider_rule: MatchRule | None = None
    model_rule: MatchRule | None = None
    """The models that are its own where no provider is named."""
    also: tuple[str, ...] = ()
    """Other providers whose prices hold for models that it does not list itself."""
    names: Mapping[str, int] = field(init=False, compare=False, repr=False)
    """Exact names -> the model's place."""
    ruled: Sequence[int] = field(init=False, compare=False, repr=False)
    """The places of models that are found by other rules than exact names."""

    def __post_init__(self) -> None:
        """Index the models by their names."""
        names: dict[str, int] = {}
        ruled: list[int] = []
        for place, model in enumerate(self.models):
            exact_names = model.rule.only_names
            if exact_names is None:
                ruled.append(place)
            else:
                for name in exact_names:
                    names.setdefault(name, place)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "ruled", ruled)

    def model(self, name: str) -> ModelPrices | None:
        """The first model that a name in lower case means."""
        place = self.names.get(name)
        for ruled in self.ruled:
            if place is not None and ruled > place:
                break
            if self.models[ruled].rule.matches(name):
                return self.models[ruled]
        return None if place is None else self.models[place]


class FoundPrice(Record):
    """A price: the row, whose it is, and in which version of the catalogue."""

    provider: str
    model: str
    row: PriceRow
    version: str


class PriceSource(Protocol):
    """What prices are looked up in: a catalogue, or those that hold for an organization."""

    @property
    def price_dates(self) -> AbstractSet[date]:
        """The UTC dates at which any price may change."""

    def price(
        self, provider: str, name: str, measure: Measure, conditions: Conditions, *, on: date
    ) -> FoundPrice | None:
        """What a measure of a model costs on a UTC date; None for an unknown model or one without such a price."""

    def dates_of(self, provider: str, name: str) -> AbstractSet[date]:
        """The UTC dates at which a price of a model may change."""

    def has_provider(self, name: str, *, on: date) -> bool:
        """Whether any model of a provider has prices on a UTC date."""

    def is_deprecated(self, provider: str, name: str, *, on: date) -> bool:
        """Whether a model is said to be no longer offered on a UTC date."""


@dataclass(frozen=True, eq=False, repr=False)
class Catalogue:
    """All providers. `label` says which version it is."""

    label: str
    providers: tuple[ProviderPrices, ...]
    unread: tuple[UnreadPrices, ...] = ()
    """What its file says beyond that, and is not understood."""
    price_dates: frozenset[date] = field(init=False, compare=False, repr=False)
    """The UTC dates at which any price changes."""

    def __post_init__(self) -> None:
        """Remember what names mean, and when prices change."""
        models = (model for provider in self.providers for model in provider.models)
        object.__setattr__(self, "price_dates", frozenset(at for each in models for at in each.changes()))
        object.__setattr__(self, "model", remembered(_NAMES_REMEMBERED)(self.model))

    def provider(self, name: str) -> ProviderPrices | None:
        """The provider of a name or an alias of it."""
        wanted = name.strip().lower()
        return next((each for each in self.providers if each.id == wanted), None) or next(
            (each for each in self.providers if each.provider_rule and each.provider_rule.matches(wanted)),
            None,
        )

    def provider_of_model(self, name: str) -> ProviderPrices | None:
        """The provider whose model a name means where none is given."""
        wanted = name.lower()
        return next(
            (each for each in self.providers if each.model_rule and each.model_rule.matches(wanted)), None
        )

    def model(self, provider: str, name: str) -> ModelPrices | None:
        """The model that a provider's name for it means, with its prices."""
        found = self.provider(provider) if provider else self.provider_of_model(name)
        if found is None:
            return None
        wanted = name.lower()
        others = [each for other in found.also for each in self.providers if each.id == other]
        for text in dict.fromkeys((wanted, with_long_date(wanted))):
            for each in (found, *others):
                model = each.model(text)
                if model is not None:
                    return model
        return None

    def price(
        self, provider: str, name: str, measure: Measure, conditions: Conditions, *, on: date
    ) -> FoundPrice | None:
        """What a measure of a model costs on a UTC date; None for an unknown model or one without such a price."""
        model = self.model(provider, name)
        row = model and model.row(measure, conditions, on)
        return FoundPrice(provider, model.id, row, self.label) if model and row else None

    def dates_of(self, provider: str, name: str) -> set[date]:
        """The UTC dates at which a price of a model changes."""
        model = self.model(provider, name)
        return model.changes() if model else set()

    def has_provider(self, name: str, *, on: date) -> bool:
        """Whether any model of a provider has prices on a UTC date."""
        found = self.provider(name)
        return found is not None and any(row.is_valid(on) for model in found.models for row in model.rows)

    def is_deprecated(self, provider: str, name: str, *, on: date) -> bool:
        """Whether a model is said to be no longer offered on a UTC date."""
        model = self.model(provider, name)
        return model is not None and model.deprecated_from is not None and model.deprecated_from <= on


def bounded(catalogue: Catalogue) -> Catalogue:
    """The catalogue, unless it is too large or looking a name up in it may take long. Raises UnreadablePricesError."""
    models = [model for provider in catalogue.providers for model in provider.models]
    if len(models) > MODELS_MAX or sum(len(model.rows) for model in models) > ROWS_MAX:
        raise UnreadablePricesError(f"the file has more than {MODELS_MAX} models or {ROWS_MAX} prices")
    rules = [rule for each in catalogue.providers for rule in (each.provider_rule, each.model_rule) if rule]
    rules += [each.models[place].rule for each in catalogue.providers for place in each.ruled]
    if sum(rule.work for rule in rules) > RULES_WORK_MAX:
        raise UnreadablePricesError("looking a name up by the file's match rules may take too long")
    return catalogue


def with_long_date(name: str) -> str:
    """The name with `-20251211` written as `-2025-12-11`, as some gateways shorten it."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)
