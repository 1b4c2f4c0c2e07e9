"""The parts are those that genai-prices' own extractors find, wherever these are right."""

from decimal import Decimal
from typing import Any

import pytest
from genai_prices import extract_usage

from permille.core.llm.parts import INPUT_TYPES
from permille.core.llm.read import read_usage
from tests.core.llm.samples import sent, usages

FLAVOURS = {
    "chat": "chat",
    "responses": "responses",
    "embeddings": "embeddings",
    "messages": "default",
    "generate_content": "default",
    "converse": "converse",
}
WRONG_THERE = {
    "DeepSeek: hit and miss make the prompt": "hits of the cache are not read",
    "compaction and an advisor of another model: only iterations have them": "iterations are not read",
    "Groq compound: a breakdown by model replaces the sum": "the same sum, under the compound's name",
    "Perplexity: reasoning and citations stand beside completion_tokens": "citations are no output there",
    "xAI chat: reasoning stands beside completion_tokens, cost included": "reasoning is beside the output",
}
"""Cases that are left out, and why."""


def extracted(case: dict[str, Any]) -> Any:
    """What the library finds; None where it has no extractor for such an answer."""
    try:
        return extract_usage(
            case["given"], provider_id=case["provider"], api_flavor=FLAVOURS.get(case["api"], case["api"])
        ).usage
    except (ValueError, LookupError):
        return None


CASES = [
    case
    for case in usages()
    if case["expect"]["status"] == "accepted"
    and "stream" not in case["given"]
    and case["name"] not in WRONG_THERE
    and extracted(case) is not None
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_library_finds_the_same(case: dict[str, Any]) -> None:
    theirs = extracted(case)
    parts = [part for request in read_usage(sent(case)).requests for part in request.parts if part.modality]

    def ours(*types: str) -> Decimal:
        return sum((part.quantity for part in parts if part.type in types), Decimal(0))

    writes = ("cache_write", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
    assert ours("cached_input") == (theirs.cache_read_tokens or 0)
    assert ours(*writes) == (theirs.cache_write_tokens or 0)
    assert ours("output", "reasoning") == (theirs.output_tokens or 0)
    assert ours(*(str(each) for each in INPUT_TYPES)) == (theirs.input_tokens or 0)


def test_most_cases_are_compared() -> None:
    assert len(CASES) >= 12
