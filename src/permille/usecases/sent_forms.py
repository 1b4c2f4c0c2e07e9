"""A form of the web admin is done once in a session."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection

from permille.core.errors import Invalid
from permille.store import sent_forms
from permille.store.sent_forms import SentForm

ASKED_FOR = timedelta(minutes=10)
"""For how long the same from another page is asked before it is done once more."""


def begin(conn: Connection[Any], form: SentForm, *, is_meant: bool, now: datetime) -> str | None:
    """Where the form led to when it was done before, None if it is to be done now; one that is being done is waited for.

    Raises Invalid where the same was sent lately from another page, unless it `is_meant`.
    """
    before = sent_forms.claim(conn, form, now=now)
    if before is None and not is_meant and sent_forms.was_done_by_another(conn, form, since=now - ASKED_FOR):
        raise Invalid({"base": ["sent_a_moment_ago"]})
    return before


def end(conn: Connection[Any], form: SentForm, led_to: str | None) -> None:
    """The address of what came of a form that was begun, None if it only asked: it may be sent again."""
    if led_to is None:
        sent_forms.release(conn, form)
    else:
        sent_forms.led_to(conn, form, led_to)
