"""Of two readings of a call that agree, which one says more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.llm.detail import says_more
from permille.core.llm.fold import fold
from permille.core.llm.parts import Tier, TokenType, UnreadableUsage, Usage
from permille.core.llm.read import SentUsage, read_usage
from permille.core.record import replace
from tests.core.llm.samples import sent, usages


def _read() -> Iterator[Usage]:
    for case in usages():
        with suppress(UnreadableUsage):
            yield read_usage(sent(case))


READ = list(_read())


def chat(cached: int = 0, completion: int = 300, **more: Any) -> Usage:
    counts = {"prompt_tokens": 2006, "completion_tokens": completion, "total_tokens": 2006 + completion}
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    answer = {
        "object": "chat.completion",
        "id": "c",
        "model": "gpt-5.4",
        "usage": {**counts, **details},
        **more,
    }
    return read_usage(SentUsage(provider="openai", response=answer))


def test_parts_the_cost_and_the_tier_are_more() -> None:
    plain = chat()
    for more in (chat(cached=1920), chat(service_tier="flex"), replace(plain, cost=Decimal("0.01"))):
        assert says_more(more, plain)
        assert not says_more(plain, more)
    assert not says_more(plain, plain)


@pytest.mark.parametrize(
    "other",
    [
        chat(cached=1920, completion=301),
        replace(chat(cached=1920), tier=Tier.BATCH),
        replace(chat(cached=1920), cost=Decimal(2)),
        replace(chat(cached=1920), region="eu"),
    ],
)
def test_what_contradicts_says_nothing_more(other: Usage) -> None:
    said = replace(chat(), tier=Tier.FLEX, cost=Decimal(1), region="us")
    assert not says_more(other, said)
    assert not says_more(said, other)


def test_another_model_says_nothing_more() -> None:
    assert not says_more(chat(cached=9, model="gpt-5"), chat())


@given(st.sampled_from(READ), st.sets(st.sampled_from([str(each) for each in TokenType])))
@settings(max_examples=100)
def test_a_reading_says_more_than_what_it_folds_to(usage: Usage, types: set[str]) -> None:
    requests = tuple(
        replace(each, parts=tuple(fold(each.parts, types=types, modalities=None))) for each in usage.requests
    )
    folded = replace(usage, requests=requests)
    is_finer = [set(each.parts) for each in requests] != [set(each.parts) for each in usage.requests]
    assert says_more(usage, folded) == is_finer
    assert not says_more(folded, usage)
