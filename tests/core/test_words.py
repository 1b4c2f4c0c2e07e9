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
INNER = re.compile(r"(?<!\w)\((\d{1,2}\.\d{1,2})[),]")
"""A section of the same document, as the specification cites it: (3.12)."""
VECTOR = re.compile(r"\bV-\d+\b")
ROW = re.compile(r"^\| (V-\d+) ", re.MULTILINE)


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


FILES = files()
SPECIFICATION = sorted(SEMANTICS.glob("*.md"))
HEADINGS = {path.name: set(HEADING.findall(path.read_text())) for path in SPECIFICATION}
VECTORS = {vector for path in SPECIFICATION for vector in ROW.findall(path.read_text())}


def missing_files(text: str) -> list[str]:
    return [cited for cited in FILE.findall(text) if cited not in FILES and not EXAMPLE.search(cited)]


def missing_sections(text: str) -> list[str]:
    return [
        f"{document} {number}"
        for document, numbers in SECTIONS.findall(text)
        for number in NUMBER.findall(numbers)
        if number not in HEADINGS.get(document, ())
    ]


def missing_vectors(text: str) -> list[str]:
    return [vector for vector in VECTOR.findall(text) if vector not in VECTORS]


@pytest.mark.parametrize("path", [*MODULES, *SQL], ids=shown)
def test_files_that_the_source_cites_exist(path: Path) -> None:
    assert missing_files(path.read_text()) == []


@pytest.mark.parametrize("path", [*MODULES, *TESTS, *DOCUMENTS], ids=shown)
def test_sections_of_the_specification_that_are_cited_exist(path: Path) -> None:
    text = path.read_text()
    assert missing_sections(text) == []
    assert missing_vectors(text) == []


@pytest.mark.parametrize("path", SPECIFICATION, ids=shown)
def test_sections_that_the_specification_cites_of_itself_exist(path: Path) -> None:
    assert [number for number in INNER.findall(path.read_text()) if number not in HEADINGS[path.name]] == []


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
    assert missing_sections("semantics-billing.md sections 3.8 to 3.13") == ["semantics-billing.md 3.13"]
    assert missing_vectors("V-20 and V-200") == ["V-200"]
    assert INNER.findall("the dates (4.4), the row (3.5, V-53), round(12.34, 1)") == ["4.4", "3.5"]
    assert missing_sections("semantics-metering.md 7.12; the drop from 100 to 101") == []
