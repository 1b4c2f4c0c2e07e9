"""What is read by short cuts, beside the same step by step: counts that contain others, what may be kept, decimal texts."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.llm import redact
from permille.core.llm.apis.anthropic import ANTHROPIC
from permille.core.llm.apis.google import GOOGLE
from permille.core.llm.apis.openai_chat import OPENAI_CHAT
from permille.core.llm.apis.openai_realtime import OPENAI_REALTIME
from permille.core.llm.parts import Modality, UnreadableUsage
from permille.core.llm.table import Count, Split, at, decimal, unknown_fields

APIS = [ANTHROPIC, GOOGLE, OPENAI_CHAT, OPENAI_REALTIME]
COUNTS = st.none() | st.integers(min_value=0, max_value=40)


def by_steps(count: Count, usage: dict[str, Any]) -> Split:
    """Every count is a whole from which the modalities, and then what is inside, are taken one token kind after another."""
    inner = [by_steps(each, usage) for each in count.inside]
    by_modality = count.modalities.read(usage) if count.modalities else {}
    values = [value for path in count.paths if (value := at(usage, path)) is not None]
    within = sum(sum(each.values()) for each in inner)
    sorted_out = sum(by_modality.values())
    whole = Decimal(values[0]) if values else Decimal(max(within, sorted_out))
    left = {each: by_modality.get(each, Decimal(0)) for each in Modality}
    left[Modality.TEXT] += whole - sorted_out
    if within > whole or sorted_out > whole:
        raise UnreadableUsage("total_mismatch", "")
    parts: Split = {}
    for each, found in zip(count.inside, inner, strict=True):
        for (kind, modality), number in found.items():
            left_over = number
            others = [other for other in Modality if other is not modality and each.modalities is None]
            for place in [modality, *others]:
                taken = min(left_over, left[place])
                left[place] -= taken
                left_over -= taken
                parts[kind, place] = parts.get((kind, place), Decimal(0)) + taken
            if left_over:
                raise UnreadableUsage("total_mismatch", "")
    for modality, number in left.items():
        parts[count.type, modality] = parts.get((count.type, modality), Decimal(0)) + number
    return {key: number for key, number in parts.items() if number}


@st.composite
def usage_of(draw: st.DrawFn, count: Count) -> dict[str, Any]:
    """A usage object with numbers at any of the count's paths; some contradict each other."""
    usage: dict[str, Any] = {}
    for path in dict.fromkeys(count.known()):
        place, *names = path.split(".")
        holder = usage
        for name in names:
            holder = holder.setdefault(place, {})
            place = name
        if path.endswith("Details"):
            kinds = st.sampled_from(["TEXT", "AUDIO", "IMAGE"])
            holder[place] = draw(st.lists(st.fixed_dictionaries({"modality": kinds, "tokenCount": COUNTS})))
        elif path:
            scale = 5 if count.paths[0] == path else 1  # wholes are mostly large enough
            number = draw(COUNTS)
            holder[place] = None if number is None else number * scale
    return usage


def outcome(read: Callable[[], Split]) -> dict[Any, Decimal] | str:
    try:
        return {key: number for key, number in read().items() if number}
    except UnreadableUsage as refusal:
        return refusal.code


@given(st.sampled_from([count for api in APIS for table in api.tables for count in table]), st.data())
def test_counts_are_split_as_step_by_step(count: Count, data: st.DataObject) -> None:
    usage = data.draw(usage_of(count))
    assert outcome(lambda: count.split(usage)) == outcome(lambda: by_steps(count, usage))


NAMES = st.sampled_from(
    ["usage", "model", "id", "output", "tools", "content", "text", "type", "queries", "a b"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["a-name", "two words", "", Decimal("1.5"), 1.5])
)
ANSWERS = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(NAMES, each, max_size=4)),
)


def may_be_kept(value: Any, *, is_count: bool = False) -> Any:
    """The rules of what may be kept, one after another."""

    def is_name(each: Any) -> bool:
        return isinstance(each, bool | int | Decimal) or (isinstance(each, str) and each == "a-name")

    if isinstance(value, list):
        every = [may_be_kept(each, is_count=is_count) for each in value]
        return [each for each in every if each is not None]
    if not isinstance(value, dict):
        return value if is_count and is_name(value) else None
    found: dict[str, Any] = {}
    for name, each in value.items():
        if is_count:
            kept = None if " " in name else may_be_kept(each, is_count=True)
            found |= {} if kept is None else {name: kept}
        elif name == "usage" and isinstance(each, dict):
            found[name] = may_be_kept(each, is_count=True)
        elif name in ("output", "tools") and isinstance(each, dict | list):
            found[name] = (
                may_be_kept(each)
                if isinstance(each, dict)
                else [may_be_kept(one) for one in each if isinstance(one, dict)]
            )
        elif name in ("model", "id", "type") and is_name(each):
            found[name] = each
    return found


@given(ANSWERS)
@settings(max_examples=40)
def test_what_is_kept_follows_the_rules(answer: dict[str, Any]) -> None:
    assert redact.kept(answer) == may_be_kept(answer)


@settings(max_examples=40)
@given(ANSWERS, st.sets(st.sampled_from(["model", "usage", "usage.id", "output", "output.usage.model"])))
def test_unknown_fields_are_numbers_at_paths_that_nothing_is_known_of(
    usage: dict[str, Any], known: set[str]
) -> None:
    def walk(value: dict[str, Any], base: str) -> list[str]:
        found: list[str] = []
        for name, each in value.items():
            path = base + name
            is_closed = path in known and not any(other.startswith(path + ".") for other in known)
            if isinstance(each, dict) and not is_closed:
                found += walk(each, path + ".")
            elif path not in known and type(each) in (int, Decimal) and each:
                found.append(path)
        return found

    assert unknown_fields(usage, known) == walk(usage, "")


@pytest.mark.parametrize("text", ["0", "12", "1.50", "1E+5", "0.00000012", "1E-9", "0E-10", "100", "-3.10"])
def test_numbers_have_neither_exponents_nor_idle_zeros(text: str) -> None:
    plain = format(Decimal(text), "f")
    assert decimal(Decimal(text)) == (plain.rstrip("0").rstrip(".") if "." in plain else plain)
