from __future__ import annotations

from collections.abc import Iterator

import pytest

from permille.embedded.postgres import EmbeddedPostgres
from tests.api.conftest import Server, serving


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> Iterator[Server]:
    """The API on a database of its own."""
    with serving(postgres, "test_simulation") as served:
        yield served
