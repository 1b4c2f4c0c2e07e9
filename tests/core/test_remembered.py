"""What is kept for texts of senders: those of usual length."""

from __future__ import annotations

from pathlib import Path

import permille
from permille.core.remembered import TEXT_MAX, remembered


def test_what_has_a_long_text_is_made_each_time() -> None:
    made: list[object] = []

    @remembered(2)
    def double(text: str, times: int) -> str:
        made.append(text)
        return text * times

    long = "x" * (TEXT_MAX + 1)
    for text in ("a", long[1:], long):
        for _ in range(3):
            assert double(text, 2) == 2 * text
    assert made == ["a", long[1:], long, long, long]


def test_no_reader_of_calls_keeps_texts_of_any_length() -> None:
    """redact looks at the length of a name itself; match rules of price files are short before they are remembered."""
    readers = Path(permille.__file__).parent / "core" / "llm"
    found = {file.name for file in readers.rglob("*.py") if "lru_cache(" in file.read_text()}
    assert found == {"redact.py", "match.py", "regex.py"}
