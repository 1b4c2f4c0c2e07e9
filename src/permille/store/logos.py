"""The logos of billing entities, as they were last fetched."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record, asdict


class StoredLogo(Record, kw_only=True):
    """`content` is None when it was never fetched, `problem` when the last attempt was well."""

    billing_entity_id: UUID
    url: str
    content: bytes | None
    media_type: str | None
    etag: str | None
    problem: str | None
    checked_at: datetime
    expires_at: datetime


def of_entity(conn: Connection[Any], billing_entity_id: UUID, url: str) -> StoredLogo | None:
    """The entity's logo of this URL; that of an earlier URL is none."""
    with conn.cursor(row_factory=class_row(StoredLogo)) as cursor:
        return cursor.execute(
            "select * from logo where billing_entity_id = %s and url = %s", [billing_entity_id, url]
        ).fetchone()


def save(conn: Connection[Any], logo: StoredLogo) -> None:
    """Keep the logo in place of the entity's earlier one."""
    conn.execute(
        "insert into logo values (%(billing_entity_id)s, %(url)s, %(content)s, %(media_type)s, %(etag)s,"
        " %(problem)s, %(checked_at)s, %(expires_at)s)"
        " on conflict (billing_entity_id) do update set url = excluded.url, content = excluded.content,"
        " media_type = excluded.media_type, etag = excluded.etag, problem = excluded.problem,"
        " checked_at = excluded.checked_at, expires_at = excluded.expires_at",
        asdict(logo),
    )
