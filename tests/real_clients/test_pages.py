"""The programs of docs/connect with the clients themselves: each call is billed once, by type, and no text is left."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.real_clients.conftest import Billing, Quantities, programs
from tests.real_clients.model_server import SECRET

OPENAI = {"input": 86, "cached_input": 1920, "output": 108, "reasoning": 192}
WITHOUT_REASONING = {"input": 86, "cached_input": 1920, "output": 300}
PLAIN = {"input": 2006, "output": 300}
ANTHROPIC = {"input": 12, "cached_input": 8000, "cache_write_5m": 500, "cache_write_1h": 1000, "output": 250}
FIRST_SCREEN = 30  # lines of the README that are seen without scrolling
GOOGLE = {"input": 1000, "output": 200, "reasoning": 50}


def total(*calls: dict[str, int]) -> dict[str, int]:
    return dict(sum((Counter(call) for call in calls), Counter()))


PAGES: dict[str, list[Quantities]] = {
    "openai": [{"sub_acme": total(OPENAI, OPENAI), "sub_globex": OPENAI}],
    "anthropic": [{"sub_acme": total(ANTHROPIC, ANTHROPIC)}],
    "google": [{"sub_acme": total(GOOGLE, GOOGLE)}],
    "openllmetry": [{"sub_acme": total(OPENAI, WITHOUT_REASONING)}],
    "logfire": [{"sub_acme": total(OPENAI, OPENAI)}, {"sub_acme": OPENAI}],
    "opentelemetry": [{"sub_acme": total(PLAIN, PLAIN), "sub_globex": PLAIN}],
    "openinference": [{"sub_acme": OPENAI}],
    "langfuse": [{"sub_acme": OPENAI}],
    "lago-agent-sdk": [{"sub_acme": total(OPENAI, OPENAI), "sub_globex": ANTHROPIC}],
}
CASES = [
    pytest.param(program, expected, id=f"{page}-{number}")
    for page, quantities in PAGES.items()
    for number, (program, expected) in enumerate(zip(programs(page), quantities, strict=True), start=1)
]


@pytest.mark.parametrize(("program", "expected"), CASES)
def test_the_programs_of_the_pages(billing: Billing, program: str, expected: Quantities) -> None:
    billing.run(program)
    billing.wait_for(expected)
    assert not left_in(billing.folder)


def test_the_three_lines_of_the_readme_bill_a_call(billing: Billing) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    first_screen = "\n".join(text.splitlines()[:FIRST_SCREEN])
    (program,) = map(
        textwrap.dedent, re.findall(r"^ *```python\n(.*?)^ *```$", first_screen, re.DOTALL | re.MULTILINE)
    )
    lines = [line for line in program.splitlines() if line]
    assert len(lines) == 3, "as it says"
    billing.run(f"from openai import OpenAI\n{program}")
    billing.wait_for({"sub_acme": OPENAI})
    assert not left_in(billing.folder)


def test_every_page_is_run() -> None:
    pages = {path.stem for path in (Path(__file__).parents[2] / "docs" / "connect").glob("*.md")}
    assert pages == {*PAGES, "litellm", "vercel-ai-sdk", "limits"}


def left_in(*folders: Path) -> list[Path]:
    """Files with the text of an answer in them."""
    files = itertools.chain.from_iterable(folder.rglob("*") for folder in folders)
    return [file for file in files if file.is_file() and SECRET.encode() in file.read_bytes()]
