"""Who users are at a provider of single sign-on."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection


def user_id_of(conn: Connection[Any], issuer: str, subject: str) -> UUID | None:
    row = conn.execute(
        "select user_id from sign_in_identity where issuer = %s and subject = %s", [issuer, subject]
    ).fetchone()
    return row[0] if row else None


def bind(conn: Connection[Any], issuer: str, subject: str, user_id: UUID, *, now: datetime) -> bool:
    """Whether the user is the subject from now on; not one who is another subject there, nor somebody else's."""
    cursor = conn.execute(
        "insert into sign_in_identity (issuer, subject, user_id, created_at) values (%s, %s, %s, %s)"
        " on conflict do nothing",
        [issuer, subject, user_id, now],
    )
    return cursor.rowcount == 1
