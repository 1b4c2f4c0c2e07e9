"""Forms of the web admin that were done, as long as their session lives."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.record import Record


class SentForm(Record, kw_only=True):
    """A form of a session. `digest` is that of the page's token, the address and the fields, `content` that of the last two."""

    session: bytes
    digest: bytes
    content: bytes


def claim(conn: Connection[Any], form: SentForm, *, now: datetime) -> str | None:
    """None if this transaction is the first to do the form, else where it led to before.

    While another transaction does it, this one waits for what comes of that.
    """
    cursor = conn.execute(
        "insert into sent_form (session_digest, digest, content, led_to, sent_at) values (%s, %s, %s, '', %s)"
        " on conflict do nothing",
        [form.session, form.digest, form.content, now],
    )
    if cursor.rowcount == 1:
        return None
    row = conn.execute(
        "select led_to from sent_form where session_digest = %s and digest = %s", [form.session, form.digest]
    ).fetchone()
    return row[0] if row else None


def was_done_by_another(conn: Connection[Any], form: SentForm, *, since: datetime) -> bool:
    """Whether the session has sent the same from another page, as one that its back button loaded again."""
    row = conn.execute(
        "select from sent_form where session_digest = %s and content = %s and sent_at > %s and digest <> %s limit 1",
        [form.session, form.content, since, form.digest],
    ).fetchone()
    return row is not None


def led_to(conn: Connection[Any], form: SentForm, address: str) -> None:
    """Say what came of a form that was claimed."""
    conn.execute(
        "update sent_form set led_to = %s where session_digest = %s and digest = %s",
        [address, form.session, form.digest],
    )


def release(conn: Connection[Any], form: SentForm) -> None:
    """A form that was claimed may be sent again."""
    conn.execute(
        "delete from sent_form where session_digest = %s and digest = %s", [form.session, form.digest]
    )
