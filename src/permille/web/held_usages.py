"""Held usages of language models, one by one: what was sent, why it waits, and who pays for it."""

from __future__ import annotations

from permille.api.validation import parse_uuid
from permille.core.errors import NotFound
from permille.core.llm.held import INCOMPLETE, NOBODY_PAYS
from permille.store import held_usages as store
from permille.usecases import llm_usages
from permille.usecases.llm_usages import Attribution
from permille.web.visit import Done, HtmlPage, Visit

LISTING = "/app/held-usages"


def listing(visit: Visit) -> HtmlPage:
    """GET /app/held-usages."""
    page = visit.page()
    is_counted = visit.query.get("status") == "counted"
    found, total = store.listing(
        visit.conn, visit.here.id, is_counted=is_counted, limit=page.per_page, offset=page.offset
    )
    return HtmlPage(
        template="held_usages.html",
        context={
            "held": found,
            "meta": page.meta(total),
            "is_counted": is_counted,
            "attributable": NOBODY_PAYS | INCOMPLETE,
        },
    )


def attribute(visit: Visit) -> Done:
    """POST /app/held-usages: count one of them."""
    held_id = parse_uuid(visit.form.get("held_usage"))
    if held_id is None:
        raise NotFound("held_usage")
    said = Attribution(
        external_subscription_id=visit.form.get("payer") or None,
        external_customer_id=None,
        model=visit.form.get("model") or None,
        response_id=visit.form.get("id") or None,
    )
    held = llm_usages.attribute(visit.conn, visit.here.id, held_id, said, now=visit.now)
    return Done(
        action="counted held usage",
        subject=held.identity or str(held.id),
        to=f"{LISTING}?said=attributed",
        details=visit.form.filled("payer", "model", "id"),
    )
