"""Reads the price file of genai-prices (github.com/pydantic/genai-prices, MIT): providers, models, prices by date.

Its price sets are conditional: the last one that is active counts, whole; variants for a tier are laid over it, key by
key. What is active changes at UTC dates only, but for hours of the day, so the sets are evaluated once for each stretch
between dates, within and outside those hours, and become rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from permille.core.llm.catalogue.match import read_rule
from permille.core.llm.catalogue.prices import (
    Catalogue,
    ModelPrices,
    PriceWindow,
    ProviderPrices,
    bounded,
    minute_of_day,
)
from permille.core.llm.catalogue.rows import (
    OFF_PEAK,
    STANDARD,
    TEXT,
    Conditions,
    Measure,
    PriceRow,
    Rate,
    UnreadablePricesError,
    UnreadPrices,
    context_class,
    joined,
    read_amount,
    unread_prices,
)
from permille.core.record import Record

SOURCE = "genai-prices"

STRETCH_WORK_MAX = 100_000
"""Sets of a file's models that are looked at, each for each stretch of time: a model with ten is a hundred."""
ROWS_MAX = 10_000
"""Prices of a model."""
STEPS_MAX = 20
"""Steps that a price may have by the length of the context."""

_TOKENS = {
    "input": "input",
    "output": "output",
    "cache_read": "cached_input",
    "cache_write": "cache_write",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "input_tool": "tool_input",
    "output_reasoning": "reasoning",
    "output_citation": "citation",
}
_MODALITIES = (TEXT, "audio", "image", "video")


def _token_keys() -> Iterator[tuple[str, tuple[Measure, int]]]:
    for name, kind in _TOKENS.items():
        yield f"{name}_mtok", (Measure("llm_tokens", kind), 1_000_000)
        first, _, rest = name.partition("_")
        for modality in _MODALITIES:
            key = "_".join(filter(None, (first, modality, rest)))
            yield f"{key}_mtok", (Measure("llm_tokens", kind, modality), 1_000_000)


KEYS: Mapping[str, tuple[Measure, int]] = {
    **dict(_token_keys()),
    "web_searches_kcount": (Measure("llm_calls", "web_search"), 1_000),
    "social_searches_kcount": (Measure("llm_calls", "social_search"), 1_000),
    "storage_searches_kcount": (Measure("llm_calls", "file_search"), 1_000),
    "code_executions_kcount": (Measure("llm_calls", "code_interpreter_session"), 1_000),
    "rerank_searches_kcount": (Measure("llm_calls", "rerank_search"), 1_000),
    "requests_kcount": (Measure("llm_calls", "request"), 1_000),
    "input_text_messages_kcount": (Measure("llm_calls", "message"), 1_000),
    "audio_hours": (Measure("llm_seconds", "audio"), 3_600),
    "input_audio_hours": (Measure("llm_seconds", "audio_input"), 3_600),
    "output_audio_hours": (Measure("llm_seconds", "audio_output"), 3_600),
    "input_document_kpages": (Measure("llm_pages", "document"), 1_000),
    "input_annotated_document_kpages": (Measure("llm_pages", "annotated_document"), 1_000),
    "input_mchars": (Measure("llm_characters", "input"), 1_000_000),
}
"""A price's key -> what is counted, and for how many of it the price is."""

TIERS: Mapping[str, Mapping[str, str]] = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"speed": "fast", "service_tier": "fast"},
}
"""A tier -> the request's context by which its variants are chosen: any of these is enough."""

Prices = Mapping[str, Any]


class _Boundary(NamedTuple):
    """A stretch of time in which the same sets are active."""

    from_: date | None
    to: date | None


class _Conditional(Record):
    """A price set and when it is active: from a date on, or in hours of the day."""

    prices: Prices
    from_: date | None = None
    window: PriceWindow | None = None
    when: tuple[tuple[str, str], ...] = ()

    def is_active(self, on: date | None) -> bool:
        return self.from_ is None or (on is not None and on >= self.from_)


def read_catalogue(document: Any, *, label: str) -> Catalogue:
    """The catalogue in a price file. UnreadablePricesError says what in it is wrong."""
    if not isinstance(document, list):
        raise UnreadablePricesError("the file is no list of providers")
    try:
        if sum(_work(model) for provider in document for model in provider["models"]) > STRETCH_WORK_MAX:
            raise UnreadablePricesError("the file has too many prices by date")
        return bounded(Catalogue(label, tuple(map(_provider, document)), _unread(document)))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise UnreadablePricesError(f"a provider of the file cannot be read: {error}") from error


def _work(given: Any) -> int:
    sets = given["prices"]
    number = (len(sets) if isinstance(sets, list) else 1) + len(given.get("price_variants") or ())
    return number * number if number > 1 else 0


def _provider(given: Any) -> ProviderPrices:
    return ProviderPrices(
        id=str(given["id"]),
        models=tuple(map(_model, given["models"])),
        api_pattern=str(given.get("api_pattern") or ""),
        provider_rule=read_rule(given["provider_match"]) if given.get("provider_match") else None,
        model_rule=read_rule(given["model_match"]) if given.get("model_match") else None,
        also=tuple(map(str, given.get("fallback_model_providers") or ())),
    )


def _model(given: Any) -> ModelPrices:
    sets = _sets(given["prices"])
    variants = [_conditional(each) for each in given.get("price_variants") or ()]
    windows = tuple(dict.fromkeys(each.window for each in sets if each.window is not None))
    rows: list[PriceRow] = []
    for stretch in _stretches((*sets, *variants)):
        standard = _active(sets, stretch.from_, in_window=bool(windows))
        rows += _rows(standard, STANDARD, stretch)
        if windows:
            rows += _rows(_active(sets, stretch.from_, in_window=False), OFF_PEAK, stretch)
        for tier, contexts in TIERS.items():
            rows += _rows(_overrides(variants, stretch.from_, contexts), tier, stretch)
        if len(rows) > ROWS_MAX:
            raise UnreadablePricesError(f"a model has more than {ROWS_MAX} prices")
    since = date.min if given.get("deprecated") is True else None
    return ModelPrices(str(given["id"]), read_rule(given["match"]), joined(rows), windows, since)


def _sets(given: Any) -> list[_Conditional]:
    if given == []:
        raise UnreadablePricesError("a model has an empty list of prices")
    return [_conditional(each) for each in given] if isinstance(given, list) else [_Conditional(given)]


def _conditional(given: Any) -> _Conditional:
    constraint = given.get("constraint") or {}
    when = tuple((given.get("when") or {}).items())
    if "start_date" in constraint:
        return _Conditional(given["prices"], date.fromisoformat(constraint["start_date"]), when=when)
    if "start_time" in constraint:
        window = PriceWindow(_minute(constraint["start_time"]), _minute(constraint["end_time"]))
        return _Conditional(given["prices"], window=window, when=when)
    if constraint:
        raise UnreadablePricesError(f"a price has conditions that are not known: {', '.join(constraint)}")
    return _Conditional(given["prices"], when=when)


def _minute(text: str) -> int:
    at = datetime.fromisoformat(f"1970-01-02T{text}")
    return minute_of_day(at if at.tzinfo else at.replace(tzinfo=UTC))


def _stretches(sets: Iterable[_Conditional]) -> list[_Boundary]:
    dates = sorted({each.from_ for each in sets if each.from_ is not None})
    return [_Boundary(from_, to) for from_, to in zip((None, *dates), (*dates, None), strict=True)]


def _active(sets: Sequence[_Conditional], on: date | None, *, in_window: bool) -> Prices:
    """The last set that is active, or the first one. The prices within hours of the day are those of the last hours."""
    for each in reversed(sets):
        if each.is_active(on) if each.window is None else in_window:
            return each.prices
    return sets[0].prices


def _overrides(variants: Sequence[_Conditional], on: date | None, contexts: Mapping[str, str]) -> Prices:
    found: dict[str, Any] = {}
    for each in variants:
        if each.is_active(on) and all(item in contexts.items() for item in each.when):
            for key, value in each.prices.items():
                found.setdefault(key, value)
    return found


def _rows(prices: Prices, tier: str, stretch: _Boundary) -> Iterator[PriceRow]:
    for key, value in prices.items():
        if value is None or key not in KEYS:
            continue
        measure, per = KEYS[key]
        for context, amount in _by_context(value):
            yield PriceRow(measure, Conditions(tier, context), Rate(amount, per), stretch.from_, stretch.to)


def _by_context(value: Any) -> Iterator[tuple[int, Decimal]]:
    if not isinstance(value, Mapping):
        yield 0, _amount(value)
        return
    if len(value["tiers"]) > STEPS_MAX:
        raise UnreadablePricesError(f"a price has more than {STEPS_MAX} steps")
    yield 0, _amount(value["base"])
    for step in value["tiers"]:
        yield context_class(int(step["start"])), _amount(step["price"])


def _amount(value: Any) -> Decimal:
    amount = read_amount(value)
    if amount is None:
        raise UnreadablePricesError(f"{value!r} is no price")
    return amount


def _unread(document: Sequence[Mapping[str, Any]]) -> tuple[UnreadPrices, ...]:
    """The keys of prices and the conditions that this reader does not know, and therefore leaves out."""
    found: dict[str, list[str]] = {}
    for provider in document:
        for model in provider["models"]:
            for what in dict.fromkeys(_unread_of(model)):
                found.setdefault(what, []).append(f"{provider['id']}/{model['id']}")
    return unread_prices(found)


def _unread_of(model: Mapping[str, Any]) -> Iterator[str]:
    variants = list(map(_conditional, model.get("price_variants") or ()))
    for each in (*_sets(model["prices"]), *variants):
        yield from (key for key in each.prices if key not in KEYS)
    for each in variants:
        if each.prices and not any(
            all(item in contexts.items() for item in each.when) for contexts in TIERS.values()
        ):
            yield f"prices when {' and '.join(map(' is '.join, each.when))}"
