"""What comments and documents cite exists: files, links, and sections of the specification."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .test_tidy import MODULES, SOURCE, SQL

ROOT = SOURCE.parents[1]
SEMANTICS = ROOT / "docs" / "semantics"
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)]
HISTORY = {"CHANGELOG.md"}

FILE = re.compile(r"(?<![\w/.:-])((?:[\w-]+/)*[\w-]+\.(?:md|py|sql|toml))(?![\w/]|\.\w)")
EXAMPLE = re.compile(r"[A-Z_]+\.py$|coupons?\.py$|^\d+_what_it_does\.sql$")
"""Files that a reader is asked to add."""
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
HEADING = re.compile(r"^#+ (?:Appendix )?(\d+(?:\.\d+)?|[A-Z])\b", re.MULTILINE)
SECTIONS = re.compile(
    r"(semantics-\w+\.md),?\s+(?:sections?\s+|appendix\s+)?"
    r"((?:\d+(?:\.\d+)?|[A-Z]\b)(?:(?:,| and| to)\s+(?:section\s+)?\d+(?:\.\d+)?)*)"
)
NUMBER = re.compile(r"\d+(?:\.\d+)?|[A-Z]")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def files() -> set[str]:
    """Every file under each of its shorter names, too: store/plans.py, plans.py."""
    found = {path.name for path in ROOT.iterdir()}
    for folder in ("src", "tests", "tools", "docs", "benchmarks"):
        for path in (ROOT / folder).rglob("*.*"):
            parts = path.relative_to(ROOT).parts
            found |= {"/".join(parts[start:]) for start in range(len(parts))}
    return found


UNWRITTEN = {"semantics-billing.md"} - {path.name for path in SEMANTICS.iterdir()}
FILES = files() | UNWRITTEN
HEADINGS = {path.name: set(HEADING.findall(path.read_text())) for path in SEMANTICS.glob("*.md")}


def missing_files(text: str) -> list[str]:
    return [cited for cited in FILE.findall(text) if cited not in FILES and not EXAMPLE.search(cited)]


def missing_sections(text: str) -> list[str]:
    return [
        f"{document} {number}"
        for document, numbers in SECTIONS.findall(text)
        for number in NUMBER.findall(numbers)
        if document not in UNWRITTEN and number not in HEADINGS.get(document, ())
    ]


@pytest.mark.parametrize("path", [*MODULES, *SQL], ids=shown)
def test_files_that_the_source_cites_exist(path: Path) -> None:
    assert missing_files(path.read_text()) == []


@pytest.mark.parametrize("path", [*MODULES, *TESTS, *DOCUMENTS], ids=shown)
def test_sections_of_the_specification_that_are_cited_exist(path: Path) -> None:
    assert missing_sections(path.read_text()) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_links_and_files_of_documents_exist(path: Path) -> None:
    text = path.read_text()
    assert [target for target in LINK.findall(text) if not (path.parent / target).exists()] == []
    if path.name not in HISTORY:
        assert missing_files(text) == []


def test_what_is_not_there_is_found() -> None:
    assert missing_files("core/money.py, core/monney.py, docs/nothing.md") == [
        "core/monney.py",
        "docs/nothing.md",
    ]
    assert missing_sections("semantics-metering.md sections 5.1, 5.99 and 9.9") == [
        "semantics-metering.md 5.99",
        "semantics-metering.md 9.9",
    ]
    assert missing_sections("(semantics-metering.md, appendix Z)") == ["semantics-metering.md Z"]
    assert missing_sections("semantics-metering.md 7.12; the drop from 100 to 101") == []
