"""The webhook outbox read as a log, and sent again."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.store.packing import unpack

STATUSES = ("pending", "retrying", "succeeded", "failed")


class LoggedWebhook(Record, kw_only=True):
    """One webhook to one endpoint and what came of it. `last_attempt_at` is by the system's clock."""

    id: UUID
    webhook_url: str
    webhook_type: str
    status: str
    attempts: int
    http_status: int | None
    response: str | None
    payload: str | None
    rendered: bytes | None
    last_attempt_at: datetime | None
    created_at: datetime

    @property
    def body(self) -> str | None:
        """The JSON that was sent; None where nothing was rendered yet."""
        if self.payload is not None:
            return self.payload
        return None if self.rendered is None else unpack(self.rendered).decode()


def listing(
    conn: Connection[Any], organization_id: UUID, *, status: str | None, limit: int, offset: int
) -> tuple[list[LoggedWebhook], int]:
    """Webhooks, newest first, and how many there are."""
    where = "w.organization_id = %s and (%s::text is null or w.status = %s)"
    values = [organization_id, status, status]
    with conn.cursor(row_factory=class_row(LoggedWebhook)) as cursor:
        rows = cursor.execute(
            "select w.id, e.webhook_url, w.webhook_type, w.status, w.attempts, w.http_status, w.response,"
            " w.payload, w.rendered, w.last_attempt_at, w.created_at"
            f" from webhook w join webhook_endpoint e on e.id = w.webhook_endpoint_id where {where}"
            " order by w.created_at desc, w.id limit %s offset %s",
            [*values, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) from webhook w where {where}", values).fetchone()
    return rows, row[0] if row else 0


def replay(conn: Connection[Any], organization_id: UUID, webhook_id: UUID) -> bool:
    """Send it again, with the same payload and a fresh count of attempts; whether there is such a one."""
    cursor = conn.execute(
        "update webhook set status = 'pending', attempts = 0, next_attempt_at = 'epoch'"
        " where organization_id = %s and id = %s",
        [organization_id, webhook_id],
    )
    return cursor.rowcount == 1
