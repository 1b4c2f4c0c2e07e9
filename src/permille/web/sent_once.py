"""A form is done once: what the back button or a double click sends again shows what came of it the first time.

Every form of a page has a token of its own. A session's token with the same fields is the same form. The same fields with
another token, as when the back button loads the page again, are asked before they are done once more; with other fields it is
another form. Forms that may be sent again and again say so: `data-again`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from permille.store.sent_forms import SentForm
from permille.usecases import sent_forms
from permille.web.forms import ONCE
from permille.web.visit import Done, Visit

TOKEN_BYTES = 15
MEANT = "again-"
"""How tokens begin of a page that has asked whether the same is to be done once more."""
ASKED = "sent_a_moment_ago"
_FORM = re.compile(r'<form\b(?![^>]*\bdata-again\b)[^>]*\bmethod="post"[^>]*>')


def with_tokens(page: str, *, is_asked: bool = False) -> str:
    """The page with a token in each of its forms; texts are escaped in it, so that a form is one of ours.

    `is_asked`: it asks whether the same is to be done once more.
    """
    token, numbers = secrets.token_urlsafe(TOKEN_BYTES), itertools.count(1)
    sort = MEANT if is_asked else ""
    return _FORM.sub(
        lambda tag: f'{tag[0]}<input type="hidden" name="{ONCE}" value="{sort}{token}.{next(numbers)}">', page
    )


def sent_form(visit: Visit, path: str) -> SentForm | None:
    """Which form was sent, None where no page of ours made it."""
    form = visit.form
    if not form.token:
        return None
    files = [(name, one.name, hashlib.sha256(one.content).digest()) for name, one in form.files.items()]
    content = hashlib.sha256(repr((path, form.pairs, files)).encode()).digest()
    return SentForm(
        session=visit.session.digest,
        digest=hashlib.sha256(content + form.token.encode()).digest(),
        content=content,
    )


def begin(visit: Visit, form: SentForm) -> str | None:
    """Where the form led to when it was sent before, None if it is to be done now. Raises Invalid where that is asked."""
    is_meant = visit.form.token.startswith(MEANT)
    before = sent_forms.begin(visit.conn, form, is_meant=is_meant, now=visit.system_now)
    return None if before is None else _saying(before, "sent_before")


def end(visit: Visit, form: SentForm, done: Done) -> None:
    """What came of the form."""
    sent_forms.end(visit.conn, form, done.to if done.is_done else None)


def _saying(address: str, notice: str) -> str:
    parts = urlsplit(address)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "said"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("said", notice)])))
