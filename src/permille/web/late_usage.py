"""Late usage: what came in after its period was billed, to be billed on the next invoice or written off."""

from __future__ import annotations

from permille.api import late_usage as api
from permille.web.visit import Done, Page, Visit


def listing(visit: Visit) -> Page:
    """GET /app/late-usage."""
    filters = {
        name: visit.query[name] for name in ("status", "external_subscription_id") if visit.query.get(name)
    }
    found = api.list_late_usage(visit.call(query=visit.page_query(**filters)))
    return Page(
        template="late_usage.html",
        context={"found": found["late_usage"], "meta": found["meta"], "filters": filters},
    )


def bill(visit: Visit) -> Done:
    """POST /app/late-usage/{lago_id}/bill."""
    late = api.bill_late_usage(visit.call(path=visit.path))["late_usage"]
    return Done(
        action="billed late usage",
        subject=late.external_subscription_id,
        to="/app/late-usage?said=late_usage_billed",
        details={"lago_late_usage_id": str(late.lago_id), "amount_cents": late.amount_cents},
    )


def accept(visit: Visit) -> Done:
    """POST /app/late-usage/{lago_id}/accept."""
    body = {"late_usage": {"reason": visit.form.get("reason")}}
    late = api.accept_late_usage(visit.call(path=visit.path, body=body))["late_usage"]
    return Done(
        action="wrote off late usage",
        subject=late.external_subscription_id,
        to="/app/late-usage?said=late_usage_accepted",
        details={"lago_late_usage_id": str(late.lago_id), "reason": late.reason},
    )
