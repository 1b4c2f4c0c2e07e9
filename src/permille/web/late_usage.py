"""Late usage: what came in after its period was billed, to be billed on the next invoice or written off."""

from __future__ import annotations

from permille.api.late_usage import read_reason, read_status, render_late_usage
from permille.api.validation import Fields, parse_uuid
from permille.store import late_usage as store, subscriptions
from permille.store.late_usage import LateUsage
from permille.usecases.invoices import late_usage
from permille.web.visit import Done, HtmlPage, Visit


def listing(visit: Visit) -> HtmlPage:
    """GET /app/late-usage."""
    filters = {
        name: visit.query[name] for name in ("status", "external_subscription_id") if visit.query.get(name)
    }
    page = visit.page()
    found, total = store.listing(
        visit.conn,
        visit.here.id,
        status=read_status(filters.get("status")),
        external_subscription_id=filters.get("external_subscription_id"),
        limit=page.per_page,
        offset=page.offset,
    )
    context = {
        "found": render_late_usage(visit.conn, found),
        "meta": page.meta(total),
        "filters": filters,
    }
    return HtmlPage(template="late_usage.html", context=context)


def _named(visit: Visit) -> LateUsage:
    return late_usage.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))


def bill(visit: Visit) -> Done:
    """POST /app/late-usage/{lago_id}/bill."""
    late = late_usage.bill(visit.conn, _named(visit), decided_by=None, now=visit.now)
    return Done(
        action="billed late usage",
        subject=_external_subscription_id(visit, late),
        to="/app/late-usage?said=late_usage_billed",
        details={"lago_late_usage_id": str(late.id), "amount_cents": late.amount_cents},
    )


def accept(visit: Visit) -> Done:
    """POST /app/late-usage/{lago_id}/accept."""
    late, reason = _named(visit), read_reason(Fields({"reason": visit.form.get("reason")}))
    late = late_usage.accept(visit.conn, late, reason=reason, decided_by=None, now=visit.now)
    return Done(
        action="wrote off late usage",
        subject=_external_subscription_id(visit, late),
        to="/app/late-usage?said=late_usage_accepted",
        details={"lago_late_usage_id": str(late.id), "reason": late.reason},
    )


def _external_subscription_id(visit: Visit, late: LateUsage) -> str:
    return subscriptions.by_ids(visit.conn, [late.subscription_id])[late.subscription_id].external_id
