"""A form of the web admin is done once in a session."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from permille.store import sent_forms
from permille.store.sessions import Session


def begin(conn: Connection[Any], session: Session, form: bytes) -> str | None:
    """Where the form led to when it was done before, None if it is to be done now; one that is being done is waited for."""
    return sent_forms.claim(conn, session.digest, form)


def end(conn: Connection[Any], session: Session, form: bytes, led_to: str | None) -> None:
    """The address of what came of a form that was begun, None if it only asked: it may be sent again."""
    if led_to is None:
        sent_forms.release(conn, session.digest, form)
    else:
        sent_forms.led_to(conn, session.digest, form, led_to)
