"""Our prices against those of genai-prices, whose data the shipped catalogue is: equal to the last digit.

Left out, each for a reason:
- variants by `route` and `search_type`: no dimension of ours says these;
- Groq's least billed ten seconds of Whisper: a rule of a request, which sums of seconds don't know;
- inputs at the very bounds 200,000 and 512,001 to 524,288: two price lists there have bounds of their own (199,999 and
  524,288), and events know one size class;
- input of a model that asks for nothing but output, and the like: genai-prices counts it as free, we say no price.
"""

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, Provider, Usage

from permille.core.llm.catalogue.prices import ModelPrices
from permille.core.llm.catalogue.rows import CONTEXTS, Conditions, Measure
from permille.core.money import exact
from permille.store import shipped_prices

TIERS = {
    "standard": {"service_tier": "default"},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"speed": "fast", "service_tier": "fast"},
}
INPUT = (
    *(("input", "text"), ("cached_input", "text"), ("cache_write", "text"), ("cache_write_5m", "text")),
    *(("cache_write_1h", "text"), ("input", "audio"), ("cached_input", "audio"), ("input", "image")),
    *(("cached_input", "image"), ("input", "video")),
)
OUTPUT = (
    ("output", "text"),
    ("reasoning", "text"),
    ("citation", "text"),
    ("output", "audio"),
    ("output", "image"),
)
WORDS = {"cached_input": "cache_read", "cache_write_5m": "cache_write", "cache_write_1h": "cache_write"}
SIZES = (900, 31_000, 90_000, 110_000, 150_000, 220_000, 260_000, 300_000, 600_000)


def parts_of(chance: random.Random) -> dict[tuple[str, str], int]:
    chosen = [each for each in (*INPUT, *OUTPUT) if chance.random() < 0.6] or [("input", "text")]
    scale = chance.choice(SIZES)
    return {each: chance.randrange(1, max(scale // len(chosen), 2)) for each in chosen}


def theirs(parts: dict[tuple[str, str], int], calls: dict[str, int]) -> Usage:
    """The same in totals that contain their parts, as genai-prices wants it."""
    totals = dict.fromkeys((name for name in unit_data if name.endswith("_tokens")), 0)

    def add(name: str, quantity: int) -> None:
        totals[name] += quantity

    for (kind, modality), quantity in parts.items():
        side = "output" if (kind, modality) in OUTPUT else "input"
        add(f"{side}_tokens", quantity)
        add(f"{side}_{modality}_tokens", quantity)
        if kind in {"reasoning", "citation"}:
            add(f"output_{kind}_tokens", quantity)
            add(f"output_text_{kind}_tokens", quantity)
        elif kind not in {"input", "output"}:
            first, _, second = WORDS.get(kind, kind).partition("_")
            add(f"{first}_{second}_tokens", quantity)
            add(f"{first}_{modality}_{second}_tokens", quantity)
            if kind[-2:] in {"5m", "1h"}:
                add(f"{kind}_tokens", quantity)
                add(f"cache_{modality}_{kind.removeprefix('cache_')}_tokens", quantity)
    return Usage(**totals, **calls)


def ours(
    prices: ModelPrices,
    parts: dict[tuple[str, str], int],
    calls: dict[str, int],
    *,
    tier: str,
    at: datetime,
) -> Decimal:
    size = sum(quantity for each, quantity in parts.items() if each in INPUT)
    context = max(bound for bound in CONTEXTS if size > bound or bound == 0)
    quantities = {Measure("llm_tokens", *each): quantity for each, quantity in parts.items()}
    names = {"web_searches": "web_search", "storage_searches": "file_search"}
    quantities |= {Measure("llm_calls", names[name]): quantity for name, quantity in calls.items()}
    quantities[Measure("llm_calls", "request")] = 1
    total = Decimal(0)
    with exact():
        for measure, quantity in quantities.items():
            row = prices.row(measure, Conditions(prices.tier_at(tier, at), context), at.date())
            total += row.rate.of(Decimal(quantity)) if row else 0
    return total


def is_plain(model: ModelInfo) -> bool:
    """Whether its prices depend on neither date, size nor tier: then one usage says it all."""
    return not isinstance(model.prices, list) and not model.price_variants


def instants(model: ModelInfo, chance: random.Random) -> list[datetime]:
    dates = {date(2026, 11, 28)} if is_plain(model) else {date(2026, 11, 28), date(2025, 1, 1)}
    constraints = [each.constraint for each in (model.prices if isinstance(model.prices, list) else [])]
    constraints += [each.constraint for each in model.price_variants or []]
    for each in constraints:
        start = getattr(each, "start_date", None)
        if start is not None:
            dates |= {start, start - timedelta(days=1)}
    return [
        datetime.combine(each, time(chance.randrange(24), chance.randrange(60)), UTC)
        for each in sorted(dates)
    ]


@pytest.mark.parametrize("provider", providers, ids=lambda each: each.id)
def test_prices_are_those_of_genai_prices(provider: Provider) -> None:
    chance = random.Random(provider.id)
    [own] = [each for each in shipped_prices.catalogue().providers if each.id == provider.id]
    for model, prices in zip(provider.models, own.models, strict=True):
        is_sampled = not is_plain(model) or chance.random() < 0.3
        if not is_sampled or (provider.id == "groq" and "whisper" in model.id):
            continue
        tiers = ["standard"] if is_plain(model) else list(TIERS)
        for at in instants(model, chance):
            for tier in tiers:
                parts = parts_of(chance)
                calls = {"web_searches": chance.randrange(1, 9)} if chance.random() < 0.3 else {}
                expected = model.calc_price(
                    theirs(parts, calls), provider, genai_request_timestamp=at, price_context=TIERS[tier]
                ).total_price
                got = ours(prices, parts, calls, tier=tier, at=at)
                assert round(got, 18) == round(expected, 18), (model.id, at, tier, parts, calls)


def test_names_mean_the_models_that_genai_prices_finds() -> None:
    catalogue = shipped_prices.catalogue()
    for provider in providers:
        names = {each.id for each in provider.models}
        names |= {
            f"{name}{end}"
            for name in sorted(names)[:60]
            for end in ("-20251211", "-2025-12-11", ":free", "-x")
        }
        names |= {"gpt-4o", "claude-sonnet-4-5", "claude-sonnet-4-5@20250929", "GPT-4o-2024-08-06", "nothing"}
        for name in sorted(names):
            expected = provider.find_model(name, all_providers=providers)
            found = catalogue.model(provider.id, name)
            assert (found and found.id) == (expected and expected.id), (provider.id, name)
