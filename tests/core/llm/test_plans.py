"""What plans make of an answer is what the reader makes of it, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.llm.call import events_of
from permille.core.llm.parts import UnreadableUsage
from permille.core.llm.plan import CallTerms, Plan, plan_of
from permille.core.llm.read import SentUsage, read_usage, without_content
from permille.core.llm.redact import kept
from permille.core.llm.shape import Shape, shape_of
from permille.core.llm.traced import Trace, TracedCount, Untraceable
from tests.core.llm.samples import usages

TYPES = ["input", "cached_input", "cache_write_5m", "output", "reasoning"]
TERMS = CallTerms(listed={"llm_tokens": {"type": TYPES}}, aliases={"azure/own": "openai/gpt-5.4"})
ANSWERS = [each for each in usages() if "stream" not in each["given"]]
Answer = Mapping[str, Any]


def encode(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def learned(usage: Answer, shape: Shape) -> Plan | None:
    sent = without_content(SentUsage(provider=usage["provider"], response=usage["response"]))
    return plan_of(sent, shape, TERMS, encode, model_sent=None)


def planned(plan: Plan, shape: Shape) -> list[Any] | None:
    if not plan.fits(shape.counts, shape.ids):
        return None
    events = plan.write(shape.counts, shape.ids, '"sub"', "", "0")
    return json.loads(f"[{events}]")


def read(usage: Answer) -> list[Any] | None:
    """What the reader makes of it; None where that is more than events."""
    sent = without_content(SentUsage(provider=usage["provider"], response=usage["response"]))
    try:
        found = read_usage(sent, TERMS.aliases)
    except UnreadableUsage:
        return None
    if found.identity is None or found.warnings or found.cost is not None:
        return None
    events, shared = events_of(found, found.identity, TERMS.listed, {})
    beside = {"external_subscription_id": "sub", "timestamp": 0}
    said = [
        {"transaction_id": each.transaction_id, "code": each.code, **beside, "properties": each.properties}
        for each in events
    ]
    return None if shared else said


def changed(value: Any, change: Callable[[int], int]) -> Any:
    """The same with other whole numbers."""
    if isinstance(value, dict):
        return {name: changed(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [changed(each, change) for each in value]
    return change(value) if type(value) is int else value


def usage_of(case: Answer) -> dict[str, Any]:
    return {"provider": case["provider"], "response": case["given"]}


@given(st.sampled_from(ANSWERS), st.data())
@settings(max_examples=400, deadline=None)
def test_plans_say_what_the_reader_says_or_nothing(case: Answer, data: st.DataObject) -> None:
    first = usage_of(case)
    shape = shape_of(first)
    plan = None if shape is None else learned(first, shape)
    if plan is None:
        return
    often = data.draw(st.sampled_from([1, 2, 7, 100, 5_000]))
    answer = changed(kept(first["response"]), lambda number: number * often)
    if data.draw(st.booleans()):
        numbers = st.integers(0, 400) | st.just(0) | st.integers(-2, 300_000)
        answer = changed(answer, lambda number: number if data.draw(st.booleans()) else data.draw(numbers))
    second = {"provider": case["provider"], "response": answer}
    other = shape_of(second)
    if other is None or other.key != plan_key(shape):
        return
    made = planned(plan, other)
    assert made is None or made == read(second)


def plan_key(shape: Shape | None) -> Any:
    assert shape is not None
    return shape.key


@pytest.mark.parametrize("often", [1, 3])
def test_most_answers_that_are_events_alone_have_a_plan(often: int) -> None:
    """Counts that are all so many times as large take the same way, but for bounds of the context."""
    events = [usage for each in ANSWERS if read(usage := usage_of(each)) is not None]
    fitting = []
    for usage in events:
        more = {**usage, "response": changed(usage["response"], lambda number: number * often)}
        shape, other = shape_of(usage), shape_of(more)
        plan = shape and learned(usage, shape)
        if plan and other and planned(plan, other) == read(more):
            fitting.append(usage)
    assert len(fitting) > len(events) * 0.6, (len(fitting), len(events))


def test_an_answer_and_what_is_kept_of_it_have_one_shape_without_content() -> None:
    for case in ANSWERS:
        whole = shape_of(usage_of(case))
        bare = shape_of({"provider": case["provider"], "response": kept(case["given"])})
        if whole is not None:
            assert whole == bare
            assert all(len(each) <= 256 for each in whole.key if isinstance(each, str))


def chat(prompt: int, cached: int, **more: Any) -> dict[str, Any]:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": 5,
        "total_tokens": prompt + 5,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return {
        "provider": "openai",
        "response": {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-5.4",
            "usage": usage,
            **more,
        },
    }


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (chat(20, 3), True),
        (chat(20, 20), False),  # nothing is left of the input
        (chat(20, 21), False),  # more is cached than was sent
        (chat(40_000, 3), False),  # another class of context
    ],
)
def test_a_plan_fits_what_takes_the_same_way(other: dict[str, Any], fits: bool) -> None:
    shape, second = shape_of(chat(10, 2)), shape_of(other)
    assert shape is not None
    assert second is not None
    assert second.key == shape.key
    plan = learned(chat(10, 2), shape)
    assert plan is not None
    assert (planned(plan, second) is not None) == fits


@pytest.mark.parametrize(
    "other",
    [
        chat(10, 0),
        chat(10, 2, service_tier="flex"),
        chat(10, 2, model="gpt-5.4-mini"),
        {**chat(10, 2), "model": "gpt-5.4-mini"},
        {**chat(10, 2), "provider": "azure"},
        chat(10, 2, metadata={"status": "x"}),
    ],
)
def test_what_may_be_read_otherwise_is_another_shape(other: dict[str, Any]) -> None:
    shape, second = shape_of(chat(10, 2)), shape_of(other)
    assert shape is not None
    assert second is not None
    assert shape.key != second.key


@pytest.mark.parametrize(
    "other",
    [
        chat(10, -1),
        chat(10, 10**16),
        chat(10, 2, id="ä"),
        chat(10, 2, id="event:1"),
        {"provider": "x"},
        {**chat(10, 2), "model": ["gpt"]},
    ],
)
def test_what_is_unusual_has_no_shape(other: dict[str, Any]) -> None:
    assert shape_of(other) is None


@pytest.mark.parametrize(
    "ask",
    [
        hash,
        int,
        float,
        round,
        abs,
        repr,
        lambda count: count * 2,
        lambda count: f"{count:f}",
        lambda count: count / 2,
        lambda count: count.normalize(),
        lambda count: count + Decimal("0.5"),
        lambda count: max(count, "1"),
    ],
)
def test_a_traced_count_says_nothing_that_is_not_traced(ask: Callable[[TracedCount], Any]) -> None:
    count = Trace().count(5)
    if ask is repr:
        assert "5" not in repr(count)
        return
    with pytest.raises(Untraceable):
        ask(count)
