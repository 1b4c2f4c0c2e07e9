"""Changes of prices that are still to reach somebody: shown with the plan, and cancelled. docs/price-changes.md."""

from __future__ import annotations

from typing import Any

from permille.api.charges import plan_to_change, shown_plan
from permille.api.http import Call
from permille.api.plans import render_change
from permille.api.price_changes import cascades
from permille.api.price_preview import previewable
from permille.api.validation import parse_uuid
from permille.database import locks
from permille.usecases.catalogue import plans as catalogue


@previewable
def cancel_scheduled_change(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/scheduled_changes/{lago_id}, or of a subscription: the prices go on as before it.

    With `cascade_updates` also the changes at the same instant of plans of single subscriptions.
    """
    locks.change_catalogue(call.conn, call.organization.id)
    found = catalogue.scheduled_change(shown_plan(call), parse_uuid(call.path["lago_id"]))
    catalogue.cancel_scheduled(call.conn, plan_to_change(call), found, cascades=cascades(call), now=call.now)
    return {"scheduled_change": render_change(found)}
