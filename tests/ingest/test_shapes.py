"""The accelerator says of an answer's shape what core/llm/shape.py says, or leaves it to that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from permille import accelerator
from permille.core.llm.redact import COUNTS, IDS, NAMES, NESTED
from permille.core.llm.shape import shape_of
from tests.core.llm.samples import usages

pytestmark = pytest.mark.skipif(not accelerator.IS_BUILT, reason="no C compiler")

SAMPLES = [each for each in usages() if "stream" not in each["given"]]
NAMED = st.sampled_from(
    [
        "id", "response_id", "model", "status", "created_at", "usage", "x_groq", "data", "output", "candidates",
        "webSearchQueries", "message", "choices", "input_tokens", "ä", "",
    ]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["a", "span:1", "event:1", "gpt-5.4_mini", "a b", "ä", "", "a\0", "x" * 200, "x" * 257]
)
NUMBERS = st.sampled_from([0, 1, 7, -1, 10**15 - 1, 10**15, 10**30, 1.5])
LEAVES = TEXTS | NUMBERS | st.none() | st.booleans()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMED, VALUES, max_size=5)
USAGES = st.fixed_dictionaries(
    {"provider": LEAVES},
    optional={
        "api": LEAVES,
        "model": LEAVES,
        "tier": LEAVES,
        "id": LEAVES,
        "response": OBJECTS | LEAVES,
        "usage": OBJECTS | LEAVES,
    },
)


def by_accelerator(usage: dict[str, Any]) -> Any:
    return accelerator.usual.shape_of(usage, COUNTS, NESTED, IDS, NAMES)


def exact(shape: Any) -> Any:
    """True is not 1 here."""
    return None if shape is None else [[(type(each), each) for each in part] for part in shape]


@given(USAGES)
@settings(max_examples=300, deadline=None)
def test_it_says_the_same_or_nothing(usage: dict[str, Any]) -> None:
    found = by_accelerator(usage)
    assert found is None or exact(found) == exact(shape_of(usage))


def test_it_says_the_same_of_nearly_all_samples() -> None:
    left = 0
    for case in SAMPLES:
        usage = {"provider": case["provider"], "response": case["given"]}
        found, shape = by_accelerator(usage), shape_of(usage)
        left += found is None and shape is not None
        assert found is None or exact(found) == exact(shape)
    assert left < len(SAMPLES) * 0.05


@pytest.mark.parametrize("nested", [{"usage": {}}, {"message": {}}, {"usage": [{}]}])
def test_depth_ends_with_the_reader(nested: dict[str, Any]) -> None:
    ((name, inner),) = nested.items()
    deep: Any = {"input_tokens": 1}
    for _ in range(5_000):
        deep = {name: [deep] if isinstance(inner, list) else deep}
    assert by_accelerator({"provider": "openai", "id": "a", "response": deep}) is None
    assert by_accelerator({"provider": "openai", "id": "a", "usage": deep}) is None
