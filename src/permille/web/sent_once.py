"""A form is done once: what the back button or a double click sends again shows what came of it the first time.

Every form of a page has a token of its own. A session's token with the same fields is the same form; with other fields
it is another one, and is done. Forms that may be sent again and again say so: `data-again`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from permille.usecases import sent_forms
from permille.web.forms import ONCE
from permille.web.visit import Done, Visit

TOKEN_BYTES = 15
_FORM = re.compile(r'<form\b(?![^>]*\bdata-again\b)[^>]*\bmethod="post"[^>]*>')


def with_tokens(page: str) -> str:
    """The page with a token in each of its forms; texts are escaped in it, so that a form is one of ours."""
    token, numbers = secrets.token_urlsafe(TOKEN_BYTES), itertools.count(1)
    return _FORM.sub(
        lambda tag: f'{tag[0]}<input type="hidden" name="{ONCE}" value="{token}.{next(numbers)}">', page
    )


def begin(visit: Visit, path: str) -> str | None:
    """Where the form led to when it was sent before, None if it is to be done now."""
    if not visit.form.token:
        return None
    before = sent_forms.begin(visit.conn, visit.session, _digest(visit, path))
    return None if before is None else _saying(before, "sent_before")


def end(visit: Visit, path: str, done: Done) -> None:
    """What came of the form."""
    if not visit.form.token:
        return
    led_to = done.to if done.is_done else None
    sent_forms.end(visit.conn, visit.session, _digest(visit, path), led_to)


def _digest(visit: Visit, path: str) -> bytes:
    form = visit.form
    files = [(name, one.name, hashlib.sha256(one.content).digest()) for name, one in form.files.items()]
    return hashlib.sha256(repr((path, form.token, form.pairs, files)).encode()).digest()


def _saying(address: str, notice: str) -> str:
    parts = urlsplit(address)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "said"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("said", notice)])))
