"""Forms of the web admin that were done, as long as their session lives."""

from __future__ import annotations

from typing import Any

from psycopg import Connection


def claim(conn: Connection[Any], session: bytes, form: bytes) -> str | None:
    """None if this transaction is the first to do the form, else where it led to before.

    While another transaction does it, this one waits for what comes of that.
    """
    cursor = conn.execute(
        "insert into sent_form (session_digest, digest, led_to) values (%s, %s, '') on conflict do nothing",
        [session, form],
    )
    if cursor.rowcount == 1:
        return None
    row = conn.execute(
        "select led_to from sent_form where session_digest = %s and digest = %s", [session, form]
    ).fetchone()
    return row[0] if row else None


def led_to(conn: Connection[Any], session: bytes, form: bytes, address: str) -> None:
    """Say what came of a form that was claimed."""
    conn.execute(
        "update sent_form set led_to = %s where session_digest = %s and digest = %s", [address, session, form]
    )


def release(conn: Connection[Any], session: bytes, form: bytes) -> None:
    """A form that was claimed may be sent again."""
    conn.execute("delete from sent_form where session_digest = %s and digest = %s", [session, form])
