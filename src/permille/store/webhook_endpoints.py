"""Webhook endpoints: where an organization is notified, and of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.ids import new_id
from permille.store import webhooks


class WebhookEndpoint(Record, kw_only=True):
    """`event_types` null means all of them, empty means none."""

    id: UUID
    organization_id: UUID
    webhook_url: str
    signature_algo: str
    name: str | None
    event_types: Sequence[str] | None
    created_at: datetime


_COLUMNS = "id, organization_id, webhook_url, signature_algo, name, event_types, created_at"


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[WebhookEndpoint]:
    with conn.cursor(row_factory=class_row(WebhookEndpoint)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from webhook_endpoint where {condition}", values).fetchall()


def by_id(conn: Connection[Any], organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint | None:
    found = _select(conn, "organization_id = %s and id = %s", [organization_id, endpoint_id])
    return found[0] if found else None


def all_of(conn: Connection[Any], organization_id: UUID) -> list[WebhookEndpoint]:
    """Every endpoint, newest first; there are few by rule."""
    return _select(conn, "organization_id = %s order by created_at desc, id", [organization_id])


def add(conn: Connection[Any], *, organization_id: UUID, columns: Mapping[str, Any], now: datetime) -> UUID:
    """Call it under locks.change_webhook_endpoints, with a URL that the organization has not yet."""
    endpoint_id = new_id(now)
    inserted = {
        "id": endpoint_id,
        "organization_id": organization_id,
        "created_at": now,
        "updated_at": now,
        **columns,
    }
    places = ", ".join(f"%({name})s" for name in inserted)
    conn.execute(f"insert into webhook_endpoint ({', '.join(inserted)}) values ({places})", inserted)
    return endpoint_id


def update(conn: Connection[Any], *, endpoint_id: UUID, columns: Mapping[str, Any], now: datetime) -> None:
    """Set the given columns; the names come from code, never from a request."""
    changed = {**columns, "updated_at": now}
    changes = ", ".join(f"{name} = %({name})s" for name in changed)
    conn.execute(
        f"update webhook_endpoint set {changes} where id = %(where_id)s", {**changed, "where_id": endpoint_id}
    )


def delete(conn: Connection[Any], endpoint_id: UUID) -> None:
    """With what was sent there and was still to be sent."""
    found = conn.execute(
        "select organization_id from webhook_endpoint where id = %s for update", [endpoint_id]
    ).fetchone()
    if found is not None:
        webhooks.end_pause(conn, endpoint_id, found[0])
    conn.execute("delete from webhook where webhook_endpoint_id = %s", [endpoint_id])
    conn.execute("delete from webhook_endpoint where id = %s", [endpoint_id])
