"""The endpoints that an organization's webhooks go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import NotFound
from permille.database import locks
from permille.store import webhook_endpoints
from permille.store.webhook_endpoints import WebhookEndpoint

ENDPOINTS_MAX = 10


def by_id(conn: Connection[Any], organization_id: UUID, endpoint_id: UUID | None) -> WebhookEndpoint:
    """Raises NotFound."""
    found = webhook_endpoints.by_id(conn, organization_id, endpoint_id) if endpoint_id else None
    if found is None:
        raise NotFound("webhook_endpoint")
    return found


def to_change(conn: Connection[Any], organization_id: UUID) -> list[WebhookEndpoint]:
    """All of them; nobody else changes them until the transaction ends."""
    locks.change_webhook_endpoints(conn, organization_id)
    return webhook_endpoints.all_of(conn, organization_id)


def problems(conn: Connection[Any], organization_id: UUID, url: str | None) -> Iterator[tuple[str, str]]:
    """Why there can be no endpoint with this address: (field, code)."""
    known = to_change(conn, organization_id)
    if len(known) >= ENDPOINTS_MAX:
        yield "base", "exceeded_limit"
    if any(other.webhook_url == url for other in known):
        yield "webhook_url", "value_already_exist"


def add(
    conn: Connection[Any], organization_id: UUID, columns: Mapping[str, Any], *, now: datetime
) -> WebhookEndpoint:
    """Add an endpoint that has no `problems`."""
    made = webhook_endpoints.add(conn, organization_id=organization_id, columns=dict(columns), now=now)
    return by_id(conn, organization_id, made)
