"""docs/security.md: each finding of the review has its line, and the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = {
    int(found.group(1)): found.group(0)
    for found in re.finditer(r"^\| F(\d+) \|.*$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
}
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text())
}


def test_every_finding_has_its_line_once() -> None:
    assert list(ROWS) == list(range(1, 34))


@pytest.mark.parametrize("row", ROWS.values(), ids=[f"F{number}" for number in ROWS])
def test_the_tests_that_it_names_are_there(row: str) -> None:
    named = re.findall(r"`([^`]+)`", row.split("|")[-2])
    assert named
    for each in named:
        function = each.split("::")[-1].split("[")[0].removesuffix("*")
        is_there = any(test.startswith(function) for test in TESTS) if function.startswith("test_") else False
        assert is_there or (ROOT / each).exists(), each
