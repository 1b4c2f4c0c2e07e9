"""What rarely serves is loaded where it is used, not at the start: each process would have it in memory."""

from __future__ import annotations

import re
from pathlib import Path

import permille

RARE = (
    "PIL", "authlib", "cryptography", "email_validator", "fontTools", "google", "httpx2", "jinja2", "joserfc", "jwt", "markdown_it",
    "opentelemetry", "rich", "segno", "stdnum", "typst",
)  # fmt: skip
LOADED_ALONE = ("out/pdf/typst_child.py", "cli/", "client/", "web/templating.py")
"""Programs of their own, and what is itself imported where it is used."""
_AT_THE_TOP = re.compile(rf"^(?:import|from) ({'|'.join(RARE)})\b", re.MULTILINE)


def test_rare_libraries_are_imported_where_they_are_used() -> None:
    root = Path(permille.__file__).parent
    found = {
        f"{path.relative_to(root)}: {library}"
        for path in root.rglob("*.py")
        if not str(path.relative_to(root)).startswith(LOADED_ALONE)
        for library in _AT_THE_TOP.findall(path.read_text())
    }
    assert found == set()
