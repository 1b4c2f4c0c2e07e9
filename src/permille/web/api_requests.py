"""The requests that write, as programmers look for them: what was sent, and why it was refused."""

from __future__ import annotations

from permille.api.api_logs import RANGES
from permille.store import api_keys, api_logs
from permille.store.api_logs import LogSearch
from permille.web.days import first_and_last
from permille.web.visit import HtmlPage, Visit

PER_PAGE = 50
FILTERS = ("outcome", "address", "request", "from", "to")


def listing(visit: Visit) -> HtmlPage:
    """GET /app/api-requests."""
    page = visit.page(PER_PAGE)
    found, total = api_logs.search(
        visit.conn, visit.here.id, _search(visit), limit=page.per_page, offset=page.offset
    )
    names = {
        each.id: each.name or each.prefix for each in api_keys.of_organization(visit.conn, visit.here.id)
    }
    context = {
        "requests": [(row, names.get(row.api_key_id)) for row in found],
        "meta": page.meta(total),
        "filters": {name: visit.query[name] for name in FILTERS if visit.query.get(name)},
        "outcomes": tuple(RANGES),
    }
    return HtmlPage(template="api_requests.html", context=context)


def _search(visit: Visit) -> LogSearch:
    """Raises Invalid for what is no day."""
    asked = {name: visit.query.get(name, "").strip() for name in FILTERS}
    since, until = first_and_last(visit.query)
    return LogSearch(
        since=since,
        until=until,
        statuses=[RANGES[asked["outcome"]]] if asked["outcome"] in RANGES else (),
        paths=[asked["address"]] if asked["address"] else (),
        request_id=asked["request"] or None,
    )
