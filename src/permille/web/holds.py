"""What is held or has failed: customers that cannot be billed, tasks, and mails that did not arrive."""

from __future__ import annotations

from datetime import timedelta

from permille.store import billing_holds, fences, mails
from permille.usecases import holds
from permille.web.mails import shown
from permille.web.visit import Done, HtmlPage, Visit

FENCES_SHOWN = 100
MAILS_SHOWN = 100
MAILS_SINCE = timedelta(days=30)


def listing(visit: Visit) -> HtmlPage:
    """GET /app/holds."""
    page = visit.page()
    held, total = billing_holds.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    unsent = mails.unsent(visit.conn, visit.here.id, since=visit.now - MAILS_SINCE, limit=MAILS_SHOWN)
    context = {
        "held": held,
        "meta": page.meta(total),
        "mails": shown(visit.conn, visit.here.id, unsent),
        "fences": fences.of_organization(visit.conn, visit.here.id, limit=FENCES_SHOWN),
    }
    return HtmlPage(template="holds.html", context=context)


def retry(visit: Visit) -> Done:
    """POST /app/holds/retry."""
    holds.retry_soon(visit.conn, visit.here.id, now=visit.now)
    return Done(action="tried again what is held", subject=visit.here.name, to="/app/holds?said=tried_again")
