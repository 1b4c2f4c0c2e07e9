"""Events: the newest ones with what they count as, renewed while one looks."""

from __future__ import annotations

from typing import Any

from permille.api import events as api
from permille.core.errors import Invalid
from permille.web.metrics import judged
from permille.web.visit import Page, Visit

FILTERS = ("code", "external_subscription_id", "timestamp_from", "timestamp_to")


def tail(visit: Visit) -> Page:
    """GET /app/events."""
    filters = {name: visit.query[name] for name in FILTERS if visit.query.get(name)}
    context: dict[str, Any] = {"filters": filters, "events": [], "meta": None, "bad": None}
    try:
        found = api.list_events(visit.call(query=visit.page_query(**filters)))
    except Invalid as refusal:
        return Page(template="events.html", context={**context, "bad": refusal.errors})
    rows = [
        {**event, "verdict": judged(visit, event["code"], event["properties"])} for event in found["events"]
    ]
    return Page(template="events.html", context={**context, "events": rows, "meta": found["meta"]})
