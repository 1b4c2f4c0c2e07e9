"""The table of Lago's operations says of each what the router does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tools import lago_operations

LAGO = Path(__file__).resolve().parents[3] / "shared" / "lago" / "openapi.yaml"


def test_the_table_is_what_the_router_does() -> None:
    assert lago_operations.PAGE.read_text() == lago_operations.page(), "run: python tools/lago_operations.py"


@pytest.mark.skipif(not LAGO.exists(), reason="Lago's document isn't beside the repository")
def test_the_table_has_every_operation_of_lago() -> None:
    whole = yaml.load(LAGO.read_text(), Loader=yaml.CSafeLoader)
    theirs = {
        (method.upper(), path.replace("{external_customer_id}", "{external_id}"))
        for path, operations in whole["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
    }
    ours = lago_operations.operations()
    assert len(ours) == len(theirs) == len(set(ours))
    assert {(method, path.count("/")) for method, path in ours} == {
        (method, path.count("/")) for method, path in theirs
    }
