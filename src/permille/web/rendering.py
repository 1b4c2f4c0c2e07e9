"""Templates to pages: the frame around every page and what templates may use."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.responses import Response

from permille.web.security import HEADERS
from permille.web.sent_once import ASKED, with_tokens
from permille.web.visit import ADMINS, OWNERS, WRITERS, HtmlPage, Visit

NOTICES = {
    "saved": "Saved.",
    "created": "Created.",
    "deleted": "Deleted.",
    "change_cancelled": "The change is cancelled. Prices go on as before it.",
    "imported": "Imported. No price has changed: look at what it changes, then approve it.",
    "credited": "The credit notes are made.",
    "approved": "Approved. Charges go by it from its date on.",
    "tried_again": "It is tried again in a few seconds; in test mode, when the clock is moved.",
    "late_usage_billed": "The next invoice bills it; of a subscription that is over it is billed already.",
    "late_usage_accepted": "Written off.",
    "attributed": "Counted, at its own time.",
    "waiting_counted": "Saved. Calls that waited for it are counted, at their own time.",
    "counted_again": "Counted under the model, as far as no final invoice has it and nobody has amended it.",
    "amended": "Amended. Usage follows at once; invoices stay as they are.",
    "moving": "The clock is moving: what becomes due on the way is being done. The page of the clock shows how far it is.",
    "moved": "The clock has moved, and everything that became due has run.",
    "applied": "The price list is in: its metrics and its plan are ready to use.",
    "subscribed": "Subscribed.",
    "ended": "The subscription has ended and what was open is billed.",
    "refreshed": "Priced again, from the events, prices and taxes that there are now.",
    "finalized": "The invoice is final.",
    "password_changed": "The password is changed. You are signed out in all other browsers.",
    "factor_required": "This organization requires a second factor. Set it up to go on.",
    "factor_off": "The second factor is off.",
    "session_ended": "Signed out there.",
    "sent_before": "This form was sent before. Here is what came of it; nothing was done a second time. To do it once more, open the form again.",
    "mailed": "The mail is queued.",
    "replayed": "The webhook is queued again.",
}
STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def static_file(name: str) -> bytes:
    return (files("permille.web") / "static" / name).read_bytes()


@cache
def static_url(name: str) -> str:
    """The address of a file of ours; another content has another address."""
    return f"/app/static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"


def _html(template: str, context: dict[str, Any]) -> str:
    from permille.web.templating import environment

    noted: dict[str, Any] = {"labels": {}, "unread": {}}
    return environment(static_url).get_template(template).render({**noted, **context})


def _answer(text: str, status: int) -> Response:
    return Response(text, status, headers=HEADERS, media_type="text/html; charset=utf-8")


def framed(visit: Visit, page: HtmlPage, status: int = 200) -> Response:
    """A page in the frame that all of them have: navigation, organization, test clock, notice."""
    context: dict[str, Any] = {
        "url": visit.url,
        "user": visit.session.user,
        "organization": visit.organization,
        "organizations": visit.organizations,
        "now": visit.now,
        "may_write": visit.may(WRITERS),
        "is_admin": visit.may(ADMINS),
        "is_owner": visit.may(OWNERS),
        "notice": NOTICES.get(visit.query.get("said", "")),
        "problems": visit.problems,
        "form": visit.form,
        "query": visit.query,
        **page.context,
    }
    return _answer(
        with_tokens(_html(page.template, context), is_asked=ASKED in visit.problems.get("base", ())), status
    )


def plain(template: str, status: int = 200, **context: Any) -> Response:
    """A page of somebody who is not signed in."""
    return _answer(_html(template, {"problems": {}, **context}), status)
