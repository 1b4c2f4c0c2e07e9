from __future__ import annotations

from typing import Any

import psycopg
import pytest

from .world import World, make_world


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
