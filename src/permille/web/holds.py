"""What is held: customers that cannot be billed, and tasks that have failed, until they are tried again."""

from __future__ import annotations

from permille.store import billing_holds, fences
from permille.usecases import holds
from permille.web.visit import Done, HtmlPage, Visit

FENCES_SHOWN = 100


def listing(visit: Visit) -> HtmlPage:
    """GET /app/holds."""
    page = visit.page()
    held, total = billing_holds.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    context = {
        "held": held,
        "meta": page.meta(total),
        "fences": fences.of_organization(visit.conn, visit.here.id, limit=FENCES_SHOWN),
    }
    return HtmlPage(template="holds.html", context=context)


def retry(visit: Visit) -> Done:
    """POST /app/holds/retry."""
    holds.retry_soon(visit.conn, visit.here.id, now=visit.now)
    return Done(action="tried again what is held", subject=visit.here.name, to="/app/holds?said=tried_again")
