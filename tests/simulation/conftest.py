from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from permille.embedded.postgres import EmbeddedPostgres
from tests.api.conftest import Server, serving


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> Iterator[Server]:
    """The API on a database of its own; that its answers are what the document says is for tests/api to check."""
    with serving(postgres, "test_simulation", TestClient) as served:
        yield served
