"""Reads LiteLLM's model_prices_and_context_window.json (github.com/BerriAI/litellm, MIT): an object of models with today's prices.

A key of a price says what is priced, from which size of the input on and in which tier, such as
`input_cost_per_token_above_200k_tokens_batches`. What is not understood is left out and reported, and so is a price of 0:
the file writes 0 for what is free and for what it does not know.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from permille.core.instants import parse_day
from permille.core.llm.catalogue.match import any_of, equals
from permille.core.llm.catalogue.prices import Catalogue, ModelPrices, ProviderPrices, bounded
from permille.core.llm.catalogue.rows import (
    CONTEXTS,
    NO_REGION,
    STANDARD,
    Conditions,
    Measure,
    PriceRow,
    Rate,
    UnreadablePricesError,
    UnreadPrices,
    joined,
    read_amount,
    unread_prices,
)
from permille.core.llm.model_name import ModelName, name_model, provider_name
from permille.core.money import exact
from permille.core.record import replace

SOURCE = "litellm"

_SAMPLE = "sample_spec"
_MILLION = 1_000_000
_TOKENS = "llm_tokens"

_PROVIDERS = {
    "azure_text": "azure",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "github_copilot": "github-copilot",
    "meta_llama": "meta",
    "moonshot": "moonshotai",
    "text-completion-codestral": "mistral",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "voyage": "voyageai",
}
"""LiteLLM's name of a provider -> ours, where it is none of the names that clients use too."""
_VERTEX = "vertex_ai-"

_MEASURES: Mapping[str, tuple[Measure, int]] = {
    "input_cost_per_token": (Measure(_TOKENS, "input"), _MILLION),
    "output_cost_per_token": (Measure(_TOKENS, "output"), _MILLION),
    "output_cost_per_reasoning_token": (Measure(_TOKENS, "reasoning"), _MILLION),
    "citation_cost_per_token": (Measure(_TOKENS, "citation"), _MILLION),
    "cache_read_input_token_cost": (Measure(_TOKENS, "cached_input"), _MILLION),
    "input_cost_per_token_cache_hit": (Measure(_TOKENS, "cached_input"), _MILLION),
    "cache_creation_input_token_cost": (Measure(_TOKENS, "cache_write"), _MILLION),
    "cache_creation_input_token_cost_above_1hr": (Measure(_TOKENS, "cache_write_1h"), _MILLION),
    "cache_creation_input_token_cost_above_12hr": (Measure(_TOKENS, "cache_write_12h"), _MILLION),
    **{
        f"{side}_cost_per_{modality}_token": (Measure(_TOKENS, side, modality), _MILLION)
        for side in ("input", "output")
        for modality in ("audio", "image", "video")
    },
    "cache_read_input_audio_token_cost": (Measure(_TOKENS, "cached_input", "audio"), _MILLION),
    "cache_read_input_image_token_cost": (Measure(_TOKENS, "cached_input", "image"), _MILLION),
    "cache_creation_input_audio_token_cost": (Measure(_TOKENS, "cache_write", "audio"), _MILLION),
    "code_interpreter_cost_per_session": (Measure("llm_calls", "code_interpreter_session"), 1),
    "file_search_cost_per_1k_calls": (Measure("llm_calls", "file_search"), 1_000),
    "google_maps_grounding_cost_per_query": (Measure("llm_calls", "google_maps"), 1),
    "input_cost_per_request": (Measure("llm_calls", "request"), 1),
    "input_cost_per_text_message": (Measure("llm_calls", "message"), 1),
    "input_cost_per_character": (Measure("llm_characters", "input"), _MILLION),
    "ocr_cost_per_page": (Measure("llm_pages", "document"), 1),
    "annotation_cost_per_page": (Measure("llm_pages", "annotated_document"), 1),
}
"""A price's key without its conditions -> what is counted, and for how many of it our price is."""
_MEASURES_OF_MODES: Mapping[tuple[str, str], tuple[Measure, int]] = {
    ("input_cost_per_query", "rerank"): (Measure("llm_calls", "rerank_search"), 1),
    ("input_cost_per_second", "audio_transcription"): (Measure("llm_seconds", "audio"), 3_600),
}
"""The same of keys that mean something only with a model's mode."""
_PER_THOUSAND = {"file_search_cost_per_1k_calls"}
"""The keys whose price is not for one."""

_TIERS = {"batches": "batch", "flex": "flex", "priority": "priority", "ultrafast": "ultrafast"}
_KEY = re.compile(
    rf"(?P<base>.+?)(?:_above_(?P<thousands>\d{{1,6}})k_tokens)?(?:_(?P<tier>{'|'.join(_TIERS)}))?"
)
_PRICE = re.compile(r"cost|pric|multiplier|search_free_requests|provider_specific_entry")
_SEARCH, _FREE_SEARCHES = "search_context_cost_per_query", "search_free_requests"
_STEPS, _STEP_RANGE = "tiered_pricing", "range"
_UPLIFTS = {
    "regional_processing_uplift_multiplier_eu": "eu",
    "regional_processing_uplift_multiplier_us": "us",
}
_SPECIFIC = "provider_specific_entry"
_DEPRECATED = "deprecation_date"
_REGION = re.compile(r"(?:eu|us|us-gov|apac|global|[a-z]{2}(?:-gov)?-[a-z]+-\d)/(?=[^/]+\Z)")

Entry = Mapping[str, Any]


class _Read(NamedTuple):
    """What was read of an entry: its model, and rows."""

    name: ModelName
    sent: str
    """The model's name without its provider and region, with its snapshot."""
    rows: tuple[PriceRow, ...]
    deprecated_from: date | None


class _Reader:
    """Reads the entries one by one, and remembers what it leaves out."""

    def __init__(self, document: Mapping[str, Entry]) -> None:
        self._document = document
        self._unread: dict[str, list[str]] = defaultdict(list)
        self.names_of: dict[str, set[str]] = defaultdict(set)
        """Our name of a provider -> LiteLLM's."""

    def leave_out(self, what: str, model: str) -> None:
        """Report what is not read."""
        self._unread[what].append(model)

    @property
    def unread(self) -> tuple[UnreadPrices, ...]:
        """What was left out, in order."""
        return unread_prices(self._unread)

    def entries(self) -> Iterator[_Read]:
        """What can be read of the file."""
        for key, own in self._document.items():
            entry = self._meant(key, own)
            if key == _SAMPLE or entry is None:
                continue
            named = self._named(key, entry)
            if named is not None and (rows := tuple(self._rows(key, entry, named[0].region or NO_REGION))):
                yield _Read(*named, rows, self._deprecated_from(key, entry))

    def _meant(self, key: str, own: Entry) -> Entry | None:
        alias = own.get("alias_of")
        if alias is None:
            return own
        meant = self._document.get(alias) if isinstance(alias, str) else None
        if meant is None or "alias_of" in meant:
            self.leave_out("alias_of", key)
            return None
        return {**meant, **own}

    def _deprecated_from(self, key: str, entry: Entry) -> date | None:
        said = entry.get(_DEPRECATED)
        if not said:
            return None
        found = parse_day(said)
        if found is None:
            self.leave_out(_DEPRECATED, key)
        return found

    def _named(self, key: str, entry: Entry) -> tuple[ModelName, str] | None:
        sent = entry.get("litellm_provider")
        if not isinstance(sent, str) or not sent:
            self.leave_out("litellm_provider", key)
            return None
        provider = _provider(sent)
        name = key
        for prefix in dict.fromkeys((sent, sent.partition("-")[0], "bedrock", "vertex_ai", provider)):
            if provider == _provider(prefix):
                name = name.removeprefix(f"{prefix}/")
        region = None
        if provider in ("aws", "azure") and (found := _REGION.match(name)):
            region, name = found[0].rstrip("/"), name[found.end() :]
        named = name_model(provider, name)
        if named.model is None or (provider in ("aws", "azure") and "/" in name):
            self.leave_out("name", key)
            return None
        self.names_of[provider].add(sent)
        return replace(named, region=region or named.region), _undated(named, name)

    def _rows(self, key: str, entry: Entry, region: str) -> Iterator[PriceRow]:
        rows = list(self._priced(key, entry, entry.get("mode"), region))
        steps = entry.get(_STEPS)
        for step in steps if isinstance(steps, list) else [steps] if steps else ():
            rows += self._step(key, step, region)
        rows += self._searches(key, entry, region)
        rows = self._agreeing(key, rows)
        yield from rows
        yield from self._uplifted(key, entry, rows)

    def _priced(self, key: str, entry: Entry, mode: Any, region: str, context: int = 0) -> Iterator[PriceRow]:
        for name, value in entry.items():
            if name in (_SEARCH, _STEPS, _SPECIFIC, _FREE_SEARCHES, *_UPLIFTS) or not _PRICE.search(name):
                continue
            found = _condition(name, mode, region, context)
            amount = read_amount(value)
            if found is None or amount is None:
                self.leave_out(name, key)
            elif not amount:
                self.leave_out(f"{name}: 0", key)
            else:
                measure, conditions, per = found
                yield _row(measure, conditions, amount, per=per, of=1_000 if name in _PER_THOUSAND else 1)

    def _step(self, key: str, step: Any, region: str) -> Iterator[PriceRow]:
        """Prices from one size of the input on."""
        sizes = step.get(_STEP_RANGE) if isinstance(step, Mapping) else None
        start = read_amount(sizes[0]) if isinstance(sizes, list) and sizes else None
        if start not in CONTEXTS:
            self.leave_out(_STEPS, key)
            return
        priced = {name: value for name, value in step.items() if name != _STEP_RANGE}
        yield from self._priced(key, priced, None, region, int(start))

    def _searches(self, key: str, entry: Entry, region: str) -> Iterator[PriceRow]:
        """The price of a search, where it is the same for every size of the results and none is free."""
        given = entry.get(_SEARCH)
        if given is None:
            return
        prices = {read_amount(each) for each in given.values()} if isinstance(given, Mapping) else {None}
        [amount, *others] = prices or {None}
        if not amount or others or _FREE_SEARCHES in entry:
            self.leave_out(_FREE_SEARCHES if _FREE_SEARCHES in entry else _SEARCH, key)
            return
        yield _row(Measure("llm_calls", "web_search"), Conditions(region=region), amount, per=1)

    def _agreeing(self, key: str, rows: list[PriceRow]) -> list[PriceRow]:
        """The rows, without those that say two prices for the same."""
        found: dict[tuple[Measure, Conditions], PriceRow] = {}
        twice: set[tuple[Measure, Conditions]] = set()
        for row in rows:
            place = row.measure, row.conditions
            if found.setdefault(place, row).rate != row.rate:
                twice.add(place)
        if twice:
            self.leave_out("two prices of the same", key)
        return [row for place, row in found.items() if place not in twice]

    def _uplifted(self, key: str, entry: Entry, rows: list[PriceRow]) -> Iterator[PriceRow]:
        """The prices of tokens of regions and of the fast tier that are multiples of others."""
        factors = {region: entry[name] for name, region in _UPLIFTS.items() if name in entry}
        specific = entry.get(_SPECIFIC)
        if isinstance(specific, Mapping) and entry.get("litellm_provider") == "anthropic":
            factors |= {"us": specific["us"]} if "us" in specific else {}
            fast = read_amount(specific.get("fast"))
            made = [_times(row, fast, tier="fast") for row in _standard(rows)] if fast else []
            yield from made
            rows = [*rows, *made]
            if not specific.keys() <= {"us", "fast"}:
                self.leave_out(_SPECIFIC, key)
        elif specific is not None:
            self.leave_out(_SPECIFIC, key)
        for region, value in factors.items():
            factor = read_amount(value)
            if factor:
                yield from (_times(row, factor, region=region) for row in _of_tokens(rows))


def _provider(sent: str) -> str:
    return _PROVIDERS.get(sent) or provider_name("vertex_ai" if sent.startswith(_VERTEX) else sent)


def _undated(named: ModelName, name: str) -> str:
    """The name as calls send it: with its snapshot where it has one."""
    return name if named.snapshot else named.model or name


def _condition(name: str, mode: Any, region: str, context: int) -> tuple[Measure, Conditions, int] | None:
    found = _KEY.fullmatch(name)
    base = found["base"] if found else name
    measured = _MEASURES.get(base) or _MEASURES_OF_MODES.get((base, str(mode)))
    if found is None or measured is None:
        return None
    if found["thousands"]:
        context = int(found["thousands"]) * 1_000
    if context not in CONTEXTS:
        return None
    tier = _TIERS[found["tier"]] if found["tier"] else STANDARD
    return measured[0], Conditions(tier, context, region), measured[1]


def _row(measure: Measure, conditions: Conditions, amount: Decimal, *, per: int, of: int = 1) -> PriceRow:
    """A price of `of` units as one of `per` units."""
    with exact():
        return PriceRow(measure, conditions, Rate(_plain(amount * per / of), per))


def _plain(amount: Decimal) -> Decimal:
    """Without zeros at the end and without an exponent."""
    return Decimal(format(amount.normalize(), "f"))


def _times(row: PriceRow, factor: Decimal, *, tier: str | None = None, region: str | None = None) -> PriceRow:
    with exact():
        rate = Rate(_plain(row.rate.amount * factor), row.rate.per)
    conditions = row.conditions._replace(
        tier=tier or row.conditions.tier, region=region or row.conditions.region
    )
    return replace(row, conditions=conditions, rate=rate)


def _of_tokens(rows: list[PriceRow]) -> list[PriceRow]:
    return [row for row in rows if row.measure.metric == _TOKENS and not row.conditions.region]


def _standard(rows: list[PriceRow]) -> list[PriceRow]:
    return [row for row in _of_tokens(rows) if row.conditions.tier == STANDARD]


def read_catalogue(document: Any, *, label: str) -> Catalogue:
    """The catalogue in a price file. UnreadablePricesError says what in it is wrong."""
    if not isinstance(document, Mapping) or not all(isinstance(each, Mapping) for each in document.values()):
        raise UnreadablePricesError("the file is no object of models")
    reader = _Reader(document)
    by_provider: dict[str, dict[str, list[_Read]]] = defaultdict(lambda: defaultdict(list))
    for each in reader.entries():
        by_provider[each.name.provider][each.sent].append(each)
    if not by_provider:
        raise UnreadablePricesError("the file has no price that is understood")
    providers = [
        ProviderPrices(
            id=provider,
            models=tuple(_models(reader, provider, named)),
            provider_rule=any_of(equals(name) for name in sorted({provider, *reader.names_of[provider]})),
        )
        for provider, named in sorted(by_provider.items())
    ]
    return bounded(Catalogue(label, tuple(providers), reader.unread))


def _models(reader: _Reader, provider: str, named: Mapping[str, list[_Read]]) -> Iterator[ModelPrices]:
    """The models of a provider under their names; one that has only dated names, also without the date where all cost the same."""
    dated: dict[str, list[ModelPrices]] = defaultdict(list)
    for sent, found in named.items():
        rows = joined(_same(reader, f"{provider}/{sent}", found))
        since = _deprecated_from(each.deprecated_from for each in found)
        yield (model := ModelPrices(sent, equals(sent), rows, deprecated_from=since))
        name = found[0].name.model
        if name and name != sent and name not in named:
            dated[name].append(model)
    for name, of_dates in dated.items():
        rows = of_dates[0].rows
        if all(each.rows == rows for each in of_dates):
            since = _deprecated_from(each.deprecated_from for each in of_dates)
            yield ModelPrices(name, equals(name), rows, deprecated_from=since)
        else:
            reader.leave_out("dated names with different prices", f"{provider}/{name}")


def _deprecated_from(said: Iterable[date | None]) -> date | None:
    """When the last of several entries of a model is; None where one of them stays."""
    dates = list(said)
    known = [each for each in dates if each is not None]
    return max(known) if known and len(known) == len(dates) else None


def _same(reader: _Reader, model: str, found: list[_Read]) -> list[PriceRow]:
    """The rows of entries that are the same model, without those whose prices differ from entry to entry."""
    by_place: dict[tuple[Measure, Conditions], set[Rate]] = defaultdict(set)
    rows = [row for each in found for row in each.rows]
    for row in rows:
        by_place[row.measure, row.conditions].add(row.rate)
    if any(len(rates) > 1 for rates in by_place.values()):
        reader.leave_out("two prices of the same", model)
    kept = dict.fromkeys(row for row in rows if len(by_place[row.measure, row.conditions]) == 1)
    return list(kept)
