"""Connect: how each client is connected, and what came in lately from any of them."""

from __future__ import annotations

from permille.store import recent_usages
from permille.web.guide import guide_of, guides, rendered
from permille.web.visit import HtmlPage, Visit


def overview(visit: Visit) -> HtmlPage:
    """GET /app/connect."""
    page = visit.page()
    found, total = recent_usages.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    return HtmlPage(
        template="connect.html",
        context={
            "usages": found,
            "meta": page.meta(total),
            "guides": guides().values(),
            "base_url": visit.engine.config.base_url,
        },
    )


def guide(visit: Visit) -> HtmlPage:
    """GET /app/connect/{name}."""
    found = guide_of(visit.path["name"])
    text = rendered(found, visit.engine.config.base_url)
    return HtmlPage(template="connect_guide.html", context={"guide": found, "text": text})
