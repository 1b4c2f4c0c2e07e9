"""A plan for an external id that has one already: what that changes is said, and asked, before it is done."""

from __future__ import annotations

from permille.core.contract.plan import sold_plan_id
from permille.core.contract.subscription import plan_period_end
from permille.core.errors import Invalid
from permille.store import plans, subscriptions
from permille.usecases.catalogue.subscriptions import NewSubscription
from permille.usecases.subscriptions import takes_over_at_once
from permille.web.visit import HtmlPage, Visit

CONFIRMED = "changes_plan"


def to_confirm(visit: Visit, wanted: NewSubscription) -> HtmlPage | None:
    """The page that asks, None where there is nothing to ask. Raises Invalid where nothing would change."""
    rows = subscriptions.history(visit.conn, visit.here.id, wanted.terms.external_id)
    living = [row for row in rows if row.status == "active" or row.is_waiting]
    payer = wanted.customer
    if not living or payer is None or living[0].customer_id != payer.id or visit.form.has(CONFIRMED):
        return None
    current = living[0]
    before = plans.plan_by_id(visit.conn, current.plan_id)
    if sold_plan_id(before) == sold_plan_id(wanted.plan):
        raise Invalid({"external_id": ["subscription_has_plan"]})
    zone = payer.applicable_timezone
    context = {
        "payer": payer,
        "current": current,
        "before": before,
        "after": wanted.plan,
        "waits": current.is_waiting,
        "at_once": takes_over_at_once(before, wanted.plan, now=visit.now),
        "ends_at": plan_period_end(current, before, timezone=zone, now=visit.now),
        "is_paid_first": wanted.terms.payment_timeout_hours is not None,
        "confirmed": CONFIRMED,
        "kept": visit.form.pairs,
        "zone": zone,
    }
    return HtmlPage(template="plan_change.html", context=context)
