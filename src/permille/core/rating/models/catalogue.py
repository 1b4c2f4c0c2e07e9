"""catalogue: what the provider asks for, by model, type and date, times a markup. Permille's own; Lago has no such model.

The price depends on the pricing group, and on when the usage was: usage is read apart for the stretches between the
dates at which its price changes, each marked with its first date (PRICE_DATE). A group has the date since when its price
is the same instead, so that a change of other models' prices does not split its line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from permille.core.bounds import is_price_date
from permille.core.llm.catalogue.prices import PriceSource, fallbacks
from permille.core.llm.catalogue.rows import CONTEXTS, STANDARD, TEXT, Rate
from permille.core.llm.cost import PRICED_BY, Dimensions, conditions_of, context_of, measure_of
from permille.core.metering.aggregations import SUM
from permille.core.metering.event import numeric_value
from permille.core.money import ZERO
from permille.core.rating.models.group_keys import PRICING
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, codes, is_amount
from permille.core.record import Record

KEYS = ("markup", "markup_by", "prices", "unpriced", "as_of", "exchange_rate")
PRICE_DATE = "price_since"
GROUPS = PRICED_BY
PRICES_OF = "prices_of"
"""The place of the catalogue in the properties of a compiled charge."""
HOLD, FREE = "hold", "free"
EVENT = "event"
PER_DEFAULT = 1_000_000
DEFAULTS: dict[str, Any] = {"markup": "1", "unpriced": HOLD, PRICING: list(GROUPS)}
ENTRIES_MAX = 1_000

_REMEMBERED = 65_536
_CHARGES_REMEMBERED = 256

Texts = tuple[str | None, ...]


class Source(NamedTuple):
    """The catalogue that a charge is priced by, and the metric whose usage it prices."""

    catalogue: PriceSource
    metric: str


class FoundRate(NamedTuple):
    """The price of a group on a date, the factor that it is multiplied by, and where it is from."""

    rate: Rate
    markup: Decimal
    source: str
    """The version of the catalogue."""
    row: str | None
    """Whose price of the catalogue it is, and of what."""

    @property
    def price(self) -> tuple[Rate, Decimal]:
        """What it comes to: the same price in another version of the catalogue is no other one."""
        return self.rate, self.markup


class OwnPrice(Record, kw_only=True):
    """A price of the charge's own, in the currency of its plan, that wins over the catalogue."""

    provider: str
    model: str
    type: str
    modality: str
    tier: str | None
    context: int
    rate: Rate
    from_: date | None

    def prices(self, group: Dimensions, kind: str, on: date) -> bool:
        """Whether it is the price of a group, whose type may be folded, on a date."""
        return (
            (self.provider, self.model, self.type) == (group.get("provider"), group.get("model"), kind)
            and self.modality == (group.get("modality") or TEXT)
            and self.tier in {None, group.get("tier") or STANDARD}
            and self.context <= context_of(group)
            and (self.from_ is None or self.from_ <= on)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogueTerms:
    """Valid properties, read once, which remember the prices that were found."""

    source: Source | None
    markup: Decimal
    markup_by: Sequence[tuple[Mapping[str, str], Decimal]]
    own: Sequence[OwnPrice]
    holds: bool
    as_of: date | None
    exchange_rate: Decimal

    def __post_init__(self) -> None:
        """Remember prices by the texts of GROUPS and the date."""
        object.__setattr__(self, "_found", lru_cache(maxsize=_REMEMBERED)(self._found))
        object.__setattr__(self, "_since", lru_cache(maxsize=_REMEMBERED)(self._since))
        object.__setattr__(self, "_changes", lru_cache(maxsize=_REMEMBERED)(self._changes))

    def found(self, group: Dimensions, on: date) -> FoundRate | None:
        """The price of a group on a date: an own one, else the catalogue's with the most specific markup."""
        return self._found(tuple([group.get(key) for key in GROUPS]), on)

    def since(self, group: Dimensions, on: date) -> date | None:
        """Since when the price is what it is on a date; None: always."""
        return self._since(tuple([group.get(key) for key in GROUPS]), on)

    def changes(self, group: Dimensions, dates: frozenset[date]) -> frozenset[date]:
        """Those of the dates at which the price of a group becomes another one."""
        if self.as_of is not None:
            return frozenset()
        return self._changes(tuple([group.get(key) for key in GROUPS]), dates)

    def _found(self, texts: Texts, on: date) -> FoundRate | None:
        group = dict(zip(GROUPS, texts, strict=True))
        measure = measure_of(self.source.metric if self.source else "", group)
        for each in fallbacks(measure):
            at = {**group, "modality": each.modality}
            fitting = [own for own in self.own if own.prices(at, each.type, on)]
            if fitting:
                best = max(fitting, key=_weight)
                return FoundRate(best.rate, Decimal(1), "own price", None)
        if self.source is None:
            return None
        catalogue = self.source.catalogue
        provider, model = group.get("provider") or "", group.get("model") or ""
        price = catalogue.price(provider, model, measure, conditions_of(group), on=on)
        if price is None:
            return None
        factor = self.markup_of(group) * self.exchange_rate
        row = f"{price.provider}/{price.model} {price.row.text}"
        return FoundRate(price.row.rate, factor, price.version, row)

    def markup_of(self, group: Dimensions) -> Decimal:
        """The markup of the entry that names the most of the group, the first of several; else the charge's."""
        fitting = [
            each for each in self.markup_by if all(group.get(key) == text for key, text in each[0].items())
        ]
        return max(fitting, key=lambda each: len(each[0]), default=({}, self.markup))[1]

    def _since(self, texts: Texts, on: date) -> date | None:
        group = dict(zip(GROUPS, texts, strict=True))
        dates = {own.from_ for own in self.own if own.from_}
        if self.source is not None:
            dates |= self.source.catalogue.dates_of(group.get("provider") or "", group.get("model") or "")
        price = self._price(group, on)
        for at in sorted((each for each in dates if date.min < each <= on), reverse=True):
            if self._price(group, at - timedelta(days=1)) != price:
                return at
        return None

    def _changes(self, texts: Texts, dates: frozenset[date]) -> frozenset[date]:
        return frozenset(on for on in dates if self._since(texts, on) == on)

    def _price(self, group: Dimensions, on: date) -> tuple[Rate, Decimal] | None:
        found = self.found(group, on)
        return found and found.price


def _weight(own: OwnPrice) -> tuple[bool, int, date]:
    return own.tier is not None, own.context, own.from_ or date.min


def terms_of(properties: Mapping[str, Any]) -> CatalogueTerms:
    """Read valid properties; the same ones once, so that what they remember serves all that are priced by them."""
    own = {name: properties[name] for name in KEYS if name in properties}
    return _read_terms(json.dumps(own, default=str, sort_keys=True), properties.get(PRICES_OF))


@lru_cache(maxsize=_CHARGES_REMEMBERED)
def _read_terms(text: str, source: Source | None) -> CatalogueTerms:
    properties = json.loads(text)
    as_of = properties.get("as_of") or EVENT
    return CatalogueTerms(
        source=source,
        markup=Decimal(str(properties.get("markup") or 1)),
        markup_by=[
            ({key: text for key, text in each.items() if key != "markup"}, Decimal(str(each["markup"])))
            for each in properties.get("markup_by") or ()
        ],
        own=[_own_price(each) for each in properties.get("prices") or ()],
        holds=properties.get("unpriced", HOLD) == HOLD,
        as_of=None if as_of == EVENT else date.fromisoformat(as_of),
        exchange_rate=Decimal(str(properties.get("exchange_rate") or 1)),
    )


def _own_price(given: Mapping[str, Any]) -> OwnPrice:
    return OwnPrice(
        provider=given["provider"],
        model=given["model"],
        type=given["type"],
        modality=given.get("modality") or TEXT,
        tier=given.get("tier"),
        context=int(given.get("context") or 0),
        rate=Rate(Decimal(str(given["amount"])), int(given.get("per") or PER_DEFAULT)),
        from_=date.fromisoformat(given["from"]) if given.get("from") else None,
    )


def price_dates(properties: Mapping[str, Any], catalogue: PriceSource | None) -> set[date]:
    """The UTC dates at which a price may change under valid properties."""
    terms = terms_of(properties)
    if terms.as_of is not None:
        return set()
    return set(catalogue.price_dates if catalogue else ()) | {own.from_ for own in terms.own if own.from_}


def price_changes(properties: Mapping[str, Any]) -> Callable[[Dimensions, frozenset[date]], frozenset[date]]:
    """Those of some UTC dates at which the price of usage with these dimensions becomes another one."""
    return terms_of(properties).changes


def placed(properties: Mapping[str, Any]) -> Callable[[Dimensions], Dimensions]:
    """The dimensions of usage with the date since when its price is the same, in place of that of its stretch."""
    terms = terms_of(properties)

    def place(dimensions: Dimensions) -> Dimensions:
        text = dimensions.get(PRICE_DATE)
        on = terms.as_of or (date.fromisoformat(text) if text else None)
        since = terms.since(dimensions, on) if on else None
        return {**dimensions, PRICE_DATE: since.isoformat() if since else None}

    return place


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its terms read."""
    terms = terms_of(properties)

    def price(quantity: Quantity) -> Price:
        if not quantity.units:
            return Price(ZERO, ZERO, {})
        since = quantity.group.get(PRICE_DATE)
        found = terms.found(quantity.group, date.fromisoformat(since) if since else date.min)
        if found is None:
            return Price(ZERO, ZERO, {"catalogue": None}, is_unpriced=True, is_held=terms.holds)
        unit_amount = found.rate.of(found.markup)
        details = {
            "catalogue": found.source,
            "row": found.row,
            "rate": str(found.rate.amount),
            "per": str(found.rate.per),
            "markup": str(found.markup),
            "price_since": since,
        }
        return Price(found.rate.of(quantity.units * found.markup), unit_amount, details)

    return price


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether everything is multiplied by 0 and nothing has a price of its own."""
    terms = terms_of(properties)
    return not (terms.markup or terms.own or any(markup for _, markup in terms.markup_by))


def errors(properties: Mapping[str, Any]) -> list[str]:
    """The codes of what is wrong with the properties."""
    optional = [name for name in ("markup", "exchange_rate") if name in properties]
    return codes(
        [
            *((f"invalid_{name}", is_amount(properties[name])) for name in optional),
            ("invalid_markup_by", _is_list(properties.get("markup_by"), _is_markup)),
            ("invalid_prices", _is_list(properties.get("prices"), _is_own_price)),
            ("invalid_unpriced", properties.get("unpriced", HOLD) in {HOLD, FREE}),
            ("invalid_as_of", properties.get("as_of", EVENT) == EVENT or _is_date(properties["as_of"])),
        ]
    )


def _is_list(value: Any, is_entry: Callable[[Any], bool]) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) <= ENTRIES_MAX and all(map(is_entry, value))


def _is_markup(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value.keys() <= {*GROUPS, "markup"} or len(value) < 2:
        return False
    texts = [text for key, text in value.items() if key != "markup"]
    return _is_number(value.get("markup")) and all(isinstance(text, str) for text in texts)


def _is_own_price(value: Any) -> bool:
    names = {"provider", "model", "type", "modality", "tier", "context", "amount", "per", "from"}
    if not isinstance(value, Mapping) or not value.keys() <= names:
        return False
    texts = [value.get(name) for name in ("provider", "model", "type")]
    texts += [value[name] for name in ("modality", "tier") if value.get(name) is not None]
    return (
        all(isinstance(text, str) and text for text in texts)
        and _is_number(value.get("amount"))
        and value.get("context", 0) in CONTEXTS
        and _is_whole(value.get("per", PER_DEFAULT))
        and (value.get("from") is None or _is_date(value["from"]))
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10**12


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return False
    number = numeric_value(value)
    return number is not None and is_amount(format(number, "f"))


def _is_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and is_price_date(date.fromisoformat(value))
    except ValueError:
        return False


def with_prices(properties: Mapping[str, Any], catalogue: PriceSource | None, metric: str) -> dict[str, Any]:
    """The properties with what they are priced by."""
    return {**properties, PRICES_OF: None if catalogue is None else Source(catalogue, metric)}


MODEL = Model(
    keys=KEYS,
    defaults=DEFAULTS,
    pricer=pricer,
    is_free=is_free,
    errors=errors,
    needs=SUM,
    is_linear=True,
    in_advance=False,
    priced_by=GROUPS,
    dated_by=PRICE_DATE,
    placed=placed,
)
