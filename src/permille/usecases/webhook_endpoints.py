"""The endpoints that an organization's webhooks go to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import NotFound
from permille.database import locks
from permille.store import webhook_endpoints, webhook_log, webhooks
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


def update(
    conn: Connection[Any], before: WebhookEndpoint, columns: Mapping[str, Any], *, now: datetime
) -> WebhookEndpoint:
    """Change an endpoint."""
    webhook_endpoints.update(conn, endpoint_id=before.id, columns=dict(columns), now=now)
    return by_id(conn, before.organization_id, before.id)


def remove(conn: Connection[Any], organization_id: UUID, endpoint_id: UUID | None) -> WebhookEndpoint:
    """The endpoint as it was. Raises NotFound."""
    gone = by_id(conn, organization_id, endpoint_id)
    webhook_endpoints.delete(conn, gone.id)
    return gone


def signing_key(conn: Connection[Any], *, draw: Callable[[], str], now: datetime) -> str:
    """The private key of the installation as PEM, drawn at the first call."""
    return webhooks.signing_key(conn, draw=draw, now=now)


def replay(conn: Connection[Any], organization_id: UUID, webhook_id: UUID | None) -> None:
    """Send a webhook again. Raises NotFound."""
    if webhook_id is None or not webhook_log.replay(conn, organization_id, webhook_id):
        raise NotFound("webhook")
