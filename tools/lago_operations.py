"""Write docs/lago-operations.md: each operation of Lago's API, and whether it works here.

    python tools/lago_operations.py

What works is what the router says; tests/api/test_lago_operations.py fails while the file says otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path

from permille.api.addresses import Route
from permille.api.routes import ENDPOINTS

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "api" / "lago_paths.txt"
PAGE = ROOT / "docs" / "lago-operations.md"
INTAKE = {("POST", "/events"), ("POST", "/events/batch")}
"""Operations that the intake answers, in front of the router."""


def operations() -> list[tuple[str, str]]:
    """Method and path of each of Lago's."""
    return [(line.split()[0], line.split()[1]) for line in LIST.read_text().splitlines() if line]


def works(method: str, path: str) -> bool:
    """Whether one of our endpoints answers it."""
    where = re.sub(r"\{\w+\}", "x", path)
    return (method, path) in INTAKE or any(
        known == method and Route(own, print).path_regex.match(where) for known, own, _ in ENDPOINTS
    )


def page() -> str:
    """The document."""
    found = sorted(((path, method, works(method, path)) for method, path in operations()))
    count = sum(is_built for _, _, is_built in found)
    rows = [
        f"| `{method} {path}` | {'works' if is_built else 'not yet'} |" for path, method, is_built in found
    ]
    intro = (
        "Each operation of Lago's public API, and whether it works here. What doesn't yet answers 501 `not_supported_yet`."
        "\nWhere what works differs on purpose: [lago-differences.md](lago-differences.md). This page is written by"
        " `python tools/lago_operations.py`."
    )
    return "\n".join(
        [
            "# Lago's operations",
            "",
            intro,
            "",
            f"{count} of {len(found)} work.",
            "",
            "| operation | |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
