"""Changes of prices that are still to reach somebody: shown with the plan, and cancelled. docs/price-changes.md."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from permille.api.http import Call
from permille.api.overrides import cascades, plan_to_override, subscribed_plan
from permille.api.plans import plan_of, render_change
from permille.api.price_changes import store_edit
from permille.api.price_preview import previewable
from permille.api.validation import parse_uuid
from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import cancel_change, price_changes
from permille.core.errors import NotFound
from permille.database import locks
from permille.store import plans


@previewable
def cancel_scheduled_change(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/scheduled_changes/{lago_id}, or of a subscription: the prices go on as before it.

    With `cascade_updates` also the changes at the same instant of plans of single subscriptions.
    """
    locks.change_catalogue(call.conn, call.organization.id)
    is_of_subscription = "external_id" in call.path
    shown = subscribed_plan(call)[1] if is_of_subscription else plan_of(call)
    change_id = parse_uuid(call.path["lago_id"])
    found = next((each for each in price_changes(shown) if each.id == change_id), None)
    if found is None:
        raise NotFound("scheduled_change")
    plan = plan_to_override(call) if is_of_subscription else shown
    follow = plan.parent_id is None and cascades(call)
    for each in [plan, *(plans.children(call.conn, plan.id) if follow else [])]:
        _cancel(call, each, found.at)
    return {"scheduled_change": render_change(found)}


def _cancel(call: Call, plan: Plan, at: datetime) -> None:
    """Cancel the plan's change at this instant, if it has one."""
    for change in price_changes(plan):
        if change.at == at:
            store_edit(call, plan, cancel_change(plan, change.id, now=call.now))
