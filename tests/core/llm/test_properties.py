"""Whatever a provider says: parts are never negative, add up to its totals, and folding loses nothing."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.llm.context import BOUNDS, context_of
from permille.core.llm.fold import fold
from permille.core.llm.parts import Modality, TokenType, UnreadableUsage, Usage, UsagePart
from permille.core.llm.read import SentUsage, read_usage, without_content
from tests.core.llm.samples import sent, usages

COUNTS = st.integers(min_value=0, max_value=600_000)


def tokens(usage: Usage) -> Decimal:
    return sum(
        (part.quantity for request in usage.requests for part in request.parts if part.modality), Decimal(0)
    )


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    cached, written, fresh, audio = (draw(COUNTS) for _ in range(4))
    prompt = cached + written + fresh
    reasoning, said = draw(COUNTS), draw(COUNTS)
    return {
        "object": "chat.completion",
        "id": "chatcmpl-1",
        "model": "gpt-5.4",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": reasoning + said,
            "total_tokens": prompt + reasoning + said,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": written,
                "audio_tokens": min(audio, prompt),
            },
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        },
    }


@given(chats())
def test_a_chat_adds_up(answer: dict[str, Any]) -> None:
    usage = read_usage(SentUsage(provider="openai", response=answer))
    assert all(part.quantity > 0 for request in usage.requests for part in request.parts)
    assert tokens(usage) == answer["usage"]["total_tokens"]
    inputs = [part for part in usage.requests[0].parts if part.type not in ("output", "reasoning")]
    assert sum(part.quantity for part in inputs) == answer["usage"]["prompt_tokens"]
    cached = [part.quantity for part in inputs if part.type == "cached_input"]
    assert sum(cached) == answer["usage"]["prompt_tokens_details"]["cached_tokens"]


@given(chats(), st.integers(min_value=1, max_value=10_000))
def test_a_total_that_is_too_small_is_never_guessed(answer: dict[str, Any], missing: int) -> None:
    answer["usage"]["total_tokens"] -= missing
    with pytest.raises(UnreadableUsage):
        read_usage(SentUsage(provider="openai", response=answer))


@given(chats(), st.integers(min_value=1, max_value=10_000))
def test_hidden_tokens_are_output_with_a_warning(answer: dict[str, Any], hidden: int) -> None:
    answer["usage"]["total_tokens"] += hidden
    usage = read_usage(SentUsage(provider="openai", response=answer))
    assert tokens(usage) == answer["usage"]["total_tokens"]
    assert [each.code for each in usage.warnings] == ["total_mismatch"]


@given(chats(), st.booleans())
def test_xai_is_read_the_same_with_reasoning_inside_or_beside(answer: dict[str, Any], beside: bool) -> None:
    counts = answer["usage"]
    reasoning = counts["completion_tokens_details"]["reasoning_tokens"]
    inside = read_usage(SentUsage(provider="xai", response=answer))
    if beside:
        counts["completion_tokens"] -= reasoning
    usage = read_usage(SentUsage(provider="xai", response=answer))
    assert set(usage.requests[0].parts) == set(inside.requests[0].parts)
    assert tokens(usage) == counts["total_tokens"]


PARTS = st.lists(
    st.builds(
        UsagePart,
        type=st.sampled_from(list(TokenType)),
        modality=st.sampled_from(list(Modality)),
        quantity=COUNTS.map(Decimal),
    ),
    max_size=8,
)
LISTED = st.none() | st.sets(st.sampled_from([str(each) for each in TokenType]))
LISTED_MODALITIES = st.none() | st.sets(st.sampled_from([str(each) for each in Modality]))


@given(PARTS, LISTED, LISTED_MODALITIES)
def test_folding_loses_nothing(
    parts: list[UsagePart], types: set[str] | None, modalities: set[str] | None
) -> None:
    folded = fold(parts, types=types, modalities=modalities)
    assert sum(part.quantity for part in folded) == sum(part.quantity for part in parts)
    assert len({(part.type, part.modality) for part in folded}) == len(folded)
    for part in folded:
        assert types is None or part.type in types or part.type in ("input", "output")


@given(st.sampled_from(usages()), st.data())
@settings(max_examples=300)
def test_any_answer_is_read_or_refused(case: dict[str, Any], data: st.DataObject) -> None:
    """A leaf of an answer is replaced by anything: it is read, with parts above zero, or refused with a reason."""
    junk: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({"a": 1})
    )

    def spoiled(value: Any) -> Any:
        if isinstance(value, dict) and value:
            name = data.draw(st.sampled_from(sorted(value)))
            return {**value, name: spoiled(value[name])}
        if isinstance(value, list) and value:
            return [spoiled(value[0]), *value[1:]]
        return data.draw(junk)

    changed = {**case, "given": spoiled(case["given"])}
    if not isinstance(changed["given"].get("stream", []), list):
        return
    given_usage = sent(changed)
    beside = (given_usage.model, given_usage.response_id)
    if not all(each is None or isinstance(each, str) for each in beside):
        return
    if not all(isinstance(each, dict) for each in given_usage.stream or ()):
        return
    try:
        usage = read_usage(without_content(given_usage))
    except UnreadableUsage as refused:
        assert refused.message
        return
    assert all(part.quantity > 0 for request in usage.requests for part in request.parts)


@pytest.mark.parametrize("bound", BOUNDS[1:])
def test_a_size_class_begins_above_its_bound(bound: int) -> None:
    at_bound = context_of([UsagePart(type=TokenType.CACHED_INPUT, quantity=Decimal(bound))])
    assert at_bound < bound
    above = [
        UsagePart(type=TokenType.INPUT, quantity=Decimal(1)),
        UsagePart(type=TokenType.CACHED_INPUT, quantity=Decimal(bound)),
        UsagePart(type=TokenType.OUTPUT, quantity=Decimal(10**9)),
    ]
    assert context_of(above) == bound
