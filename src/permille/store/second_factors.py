"""Second factors of users: the secret of their codes, and the digests of their recovery codes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record


class SecondFactor(Record, kw_only=True):
    """`secret` in base32; `confirmed_at` is None while it is being set up."""

    secret: str
    confirmed_at: datetime | None
    recovery_codes: int


def of_user(conn: Connection[Any], user_id: UUID) -> SecondFactor | None:
    with conn.cursor(row_factory=class_row(SecondFactor)) as cursor:
        return cursor.execute(
            "select secret, confirmed_at,"
            " (select count(*) from recovery_code c where c.user_id = f.user_id) as recovery_codes"
            " from second_factor f where user_id = %s",
            [user_id],
        ).fetchone()


def begin(conn: Connection[Any], user_id: UUID, *, secret: str, now: datetime) -> None:
    """A secret to set up, in the place of another one that is not confirmed."""
    conn.execute(
        "insert into second_factor (user_id, secret, created_at) values (%s, %s, %s)"
        " on conflict (user_id) do update set secret = excluded.secret, created_at = excluded.created_at"
        " where second_factor.confirmed_at is null",
        [user_id, secret, now],
    )


def confirm(conn: Connection[Any], user_id: UUID, *, now: datetime) -> bool:
    """Ask for codes from now on; False when it is so already."""
    cursor = conn.execute(
        "update second_factor set confirmed_at = %s where user_id = %s and confirmed_at is null",
        [now, user_id],
    )
    return cursor.rowcount == 1


def use_step(conn: Connection[Any], user_id: UUID, step: int) -> bool:
    """Take the code of a time step; False when that or a later one was taken already."""
    cursor = conn.execute(
        "update second_factor set last_step = %(step)s where user_id = %(user)s and last_step < %(step)s",
        {"step": step, "user": user_id},
    )
    return cursor.rowcount == 1


def replace_recovery_codes(conn: Connection[Any], user_id: UUID, digests: Sequence[bytes]) -> None:
    conn.execute("delete from recovery_code where user_id = %s", [user_id])
    conn.execute(
        "insert into recovery_code (user_id, digest) select %s, unnest(%s::bytea[])",
        [user_id, list(digests)],
    )


def use_recovery_code(conn: Connection[Any], user_id: UUID, digest: bytes) -> bool:
    """Whether it was one that had not been used."""
    cursor = conn.execute("delete from recovery_code where user_id = %s and digest = %s", [user_id, digest])
    return cursor.rowcount == 1


def remove(conn: Connection[Any], user_id: UUID) -> bool:
    """Ask for no codes any more; whether there was a second factor."""
    conn.execute("delete from recovery_code where user_id = %s", [user_id])
    return conn.execute("delete from second_factor where user_id = %s", [user_id]).rowcount == 1
