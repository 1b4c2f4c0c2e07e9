from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from permille.store import audit
from tests.locked_customers import CUSTOMER_IS_LOCKED

from .world import World, make_world


@pytest.fixture(autouse=True)
def _audited(db: psycopg.Connection[Any]) -> Iterator[None]:
    """Every test ends with books that are in order, of all organizations in its database."""
    db.execute(CUSTOMER_IS_LOCKED)
    db.commit()
    yield
    assert list(audit.findings(db)) == []


@pytest.fixture
def world(db: psycopg.Connection[Any]) -> World:
    """An organization in test mode at 2024-01-01, with one webhook endpoint."""
    made = make_world(db)
    db.execute(
        "insert into webhook_endpoint (id, organization_id, webhook_url, created_at, updated_at)"
        " values (gen_random_uuid(), %s, 'http://127.0.0.1:9/hook', now(), now())",
        [made.id],
    )
    return made
