"""The month of `permille demo`: events of price lists and answers of current models, and what they must come to.

Nothing of Permille's own metering or rating is in it: totals are computed from what was drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from permille.core.record import Record

MONTH = datetime(2026, 10, 1, tzinfo=UTC)
LAST_DAY = datetime(2026, 10, 31, 20, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 11, 1, 12, tzinfo=UTC)
TODAY = datetime(2026, 11, 6, 18, tzinfo=UTC)
EVENTS_AT_ONCE, CALLS_AT_ONCE = 1_000, 500
ONE_IN = 13
"""One in so many of what is drawn is an answer of a model."""

# The price page that Permille starts from, dollars for every 1,000 tokens begun.
PRICES = {
    "gpt_4_tokens": {
        ("8K", "input"): "0.03",
        ("8K", "output"): "0.06",
        ("32K", "input"): "0.06",
        ("32K", "output"): "0.12",
    },
    "gpt_3_5_turbo_tokens": {
        ("4K", "input"): "0.0015",
        ("4K", "output"): "0.002",
        ("16K", "input"): "0.003",
        ("16K", "output"): "0.005",
    },
}
MODELS = {"gpt-5.4-mini": "openai", "claude-sonnet-5-5": "anthropic", "gemini-3.5-flash": "google"}
"""Current models that are sold at the catalogue's prices times MARKUP -> who serves them."""
CACHE_WRITES = {"gpt-5.4-mini": 0.0, "claude-sonnet-5-5": 0.2, "gemini-3.5-flash": 0.0}
"""How many of a model's calls write its cache, which only Anthropic's answers say."""
MARKUP = "1.2"
MODEL_TOKENS = "llm_tokens"
MODEL_PLAN = "current-models"
PLANS = {
    "openai-gpt-4": "gpt_4_tokens",
    "openai-gpt-3.5-turbo": "gpt_3_5_turbo_tokens",
    MODEL_PLAN: MODEL_TOKENS,
}
"""Plan -> the metric that it prices. Every customer is on all of them, each by a subscription `customer-metric`."""
CUSTOMERS = [
    ("acme", "Acme Chat, Inc.", 10),
    ("globex", "Globex Assistants", 6),
    ("initech", "Initech Summaries", 3),
    ("umbrella", "Umbrella Health", 2),
    ("hooli", "Hooli Search", 5),
    ("pied-piper", "Pied Piper", 1),
]
_WHOM = [customer for customer, _, weight in CUSTOMERS for _ in range(weight)]
_MILLION = 1_000_000

UsageKey = tuple[str, str, str, str]  # customer, metric, model, type
ModelPrices = Mapping[tuple[str, str], Decimal]
"""Model and type -> what the provider asks for a million tokens."""


class Batch(Record):
    """Events, or answers of models, that are sent at once."""

    path: str
    name: str
    items: Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Month:
    """What was drawn: batches to send, and the tokens that each bucket must come to."""

    batches: list[Batch] = field(default_factory=list)
    tokens: Counter[UsageKey] = field(default_factory=Counter)
    drawn: int = 0
    """Events and answers, each once."""
    repeats: int = 0
    late: int = 0


def draw_month(count: int, *, seed: int) -> Month:
    """October, about `count` events: working-hour bursts, one in 50 late, one batch in 20 sent twice."""
    chance, month = random.Random(seed), Month()  # noqa: S311 - a repeatable demo, no secret
    instants = [_instant(chance) for _ in range(_drawn(count))]
    _fill(month, chance, [_maybe_late(chance, month, at) for at in instants], first=0)
    again = [sent for sent in month.batches if chance.random() < 0.05] or [month.batches[0]]
    month.repeats = sum(len(sent.items) for sent in again)
    month.batches += again
    return month


def draw_november(count: int, *, seed: int) -> Month:
    """From the start of November to TODAY, about `count` events, so that the running period has usage too."""
    chance, month = random.Random(seed), Month()  # noqa: S311 - as above
    start = NEXT_MONTH.replace(hour=0)
    seconds = int((TODAY - start).total_seconds())
    instants = [start + timedelta(seconds=chance.randrange(seconds)) for _ in range(_drawn(count))]
    _fill(month, chance, instants, first=10**8)
    return month


def _drawn(count: int) -> int:
    """How many events and answers are drawn for so many events in all: an answer becomes about 2.7 of them."""
    return max(count * ONE_IN // 15, ONE_IN)


def _fill(month: Month, chance: random.Random, instants: Sequence[datetime], *, first: int) -> None:
    """Answers of models and events. Each are sent in the order of their instants."""
    events: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for number, at in enumerate(sorted(instants), start=first):
        customer = chance.choice(_WHOM)
        if number % ONE_IN:
            events.append(_event(chance, month, number, customer, at))
        else:
            calls.append(_call(chance, month, number, customer, at))
    month.drawn = len(instants)
    month.batches += _batches("/api/v1/events/batch", "events", events, EVENTS_AT_ONCE)
    month.batches += _batches("/api/v1/llm/usage", "usages", calls, CALLS_AT_ONCE)


def _batches(path: str, name: str, items: Sequence[Mapping[str, Any]], size: int) -> list[Batch]:
    return [Batch(path, name, items[first : first + size]) for first in range(0, len(items), size)]


def _instant(chance: random.Random) -> datetime:
    day = chance.randint(0, 29)
    hour = min(23.99, max(0.0, chance.gauss(15, 4)))
    if chance.random() < 0.1:  # a nightly burst
        hour = 2 + chance.random() / 10
    return MONTH + timedelta(days=day, seconds=int(hour * 3600), milliseconds=chance.randint(0, 999))


def _maybe_late(chance: random.Random, month: Month, at: datetime) -> datetime:
    if chance.random() >= 0.02:
        return at
    month.late += 1
    return max(at - timedelta(days=chance.randint(1, 5)), MONTH)


def _event(chance: random.Random, month: Month, number: int, customer: str, at: datetime) -> dict[str, Any]:
    metric = chance.choice(tuple(PRICES))
    model, kind = chance.choice(tuple(PRICES[metric]))
    tokens = int(chance.lognormvariate(6, 1)) + 1
    month.tokens[customer, metric, model, kind] += tokens
    return {
        "transaction_id": f"req-{number:09d}",
        "external_subscription_id": f"{customer}-{metric}",
        "code": metric,
        "timestamp": at.timestamp(),
        "properties": {"model": model, "type": kind, "tokens": tokens},
    }


def _call(chance: random.Random, month: Month, number: int, customer: str, at: datetime) -> dict[str, Any]:
    model = chance.choice(tuple(MODELS))
    drawn = {
        "input": int(chance.lognormvariate(7, 1)) + 1,
        "cached_input": int(chance.lognormvariate(8, 1)) if chance.random() < 0.6 else 0,
        "cache_write": int(chance.lognormvariate(7, 1)) if chance.random() < CACHE_WRITES[model] else 0,
        "output": int(chance.lognormvariate(6, 1)) + 1,
    }
    for kind, tokens in drawn.items():
        month.tokens[customer, MODEL_TOKENS, model, kind] += tokens
    thinking = chance.randint(0, drawn["output"] - 1)
    return {
        "provider": MODELS[model],
        "external_subscription_id": f"{customer}-{MODEL_TOKENS}",
        "timestamp": at.timestamp(),
        "response": _ANSWERS[MODELS[model]](f"{number:09d}", model, drawn, thinking),
    }


def _openai(name: str, model: str, drawn: Mapping[str, int], thinking: int) -> dict[str, Any]:
    """The cached tokens are among those of the prompt."""
    prompt, output = drawn["input"] + drawn["cached_input"], drawn["output"]
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "model": f"{model}-2026-03-17",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": drawn["cached_input"]},
            "completion_tokens_details": {"reasoning_tokens": thinking},
        },
    }


def _anthropic(name: str, model: str, drawn: Mapping[str, int], thinking: int) -> dict[str, Any]:
    """The cached tokens are beside the others."""
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "usage": {
            "input_tokens": drawn["input"],
            "cache_read_input_tokens": drawn["cached_input"],
            "cache_creation_input_tokens": drawn["cache_write"],
            "output_tokens": drawn["output"],
            "output_tokens_details": {"thinking_tokens": thinking},
        },
    }


def _google(name: str, model: str, drawn: Mapping[str, int], thinking: int) -> dict[str, Any]:
    """The cached tokens are among those of the prompt, thoughts are beside the others of the output."""
    prompt, output = drawn["input"] + drawn["cached_input"], drawn["output"]
    return {
        "responseId": name,
        "modelVersion": model,
        "usageMetadata": {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": drawn["cached_input"],
            "candidatesTokenCount": output - thinking,
            "thoughtsTokenCount": thinking,
            "totalTokenCount": prompt + output,
        },
    }


_ANSWERS: Mapping[str, Callable[[str, str, Mapping[str, int], int], dict[str, Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google": _google,
}


def expected_cents(
    month: Month, customer: str, prices: ModelPrices, metrics: Sequence[str] = tuple(PLANS.values())
) -> int:
    """What a customer is to pay for these metrics: each bucket rounded to the cent."""
    return sum(
        _cents(metric, model, kind, tokens, prices)
        for (owner, metric, model, kind), tokens in month.tokens.items()
        if owner == customer and metric in metrics
    )


def _cents(metric: str, model: str, kind: str, tokens: int, prices: ModelPrices) -> int:
    """Packages of 1,000 begun by the price page; current models by the token."""
    if metric == MODEL_TOKENS:
        amount = tokens * prices[model, kind] * Decimal(MARKUP) / _MILLION if tokens else Decimal(0)
    else:
        amount = (tokens + 999) // 1_000 * Decimal(PRICES[metric][model, kind])
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def expected_costs(month: Month, prices: ModelPrices) -> dict[str, Decimal]:
    """Model -> what its provider bills in dollars."""
    costs = dict.fromkeys(MODELS, Decimal(0))
    for (_, metric, model, kind), tokens in month.tokens.items():
        if metric == MODEL_TOKENS and tokens:
            costs[model] += tokens * prices[model, kind] / _MILLION
    return costs
