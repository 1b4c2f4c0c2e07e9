"""`dry_run`: an edit of prices answers what it would do to the running bills, and saves nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from permille.api.http import Call
from permille.api.objects import price_preview as objects
from permille.api.overrides import cascades, subscribed_plan
from permille.api.price_changes import beside
from permille.core.errors import NotFound
from permille.core.rating.price_preview import BillChange, Preview
from permille.database import locks
from permille.store import plans, subscriptions
from permille.usecases.catalogue.price_preview import COMPARED_MAX, preview

Edit = Callable[[Call], dict[str, Any]]


def previewable(edit: Edit) -> Edit:
    """An edit of prices that can be asked for with `dry_run`, beside the root object or in the query."""

    @wraps(edit)
    def answer(call: Call) -> dict[str, Any]:
        return {"dry_run": render_preview(preview_edit(call, edit))} if _is_dry_run(call) else edit(call)

    return answer


def _is_dry_run(call: Call) -> bool:
    fields = beside(call, "dry_run")
    wanted = fields.flag("dry_run")
    fields.check()
    return bool(wanted)


def preview_edit(call: Call, edit: Edit) -> Preview:
    """What the edit would do. Raises what it raises."""
    locks.change_catalogue(call.conn, call.organization.id)
    running, count = reached(call)
    return preview(call.conn, lambda: edit(call), running=running, subscriptions_count=count, now=call.now)


def reached(call: Call) -> tuple[list[UUID], int]:
    """The running subscriptions that an edit of the path's plan or subscription reaches, and how many there are."""
    if "external_id" in call.path:
        try:
            row, _ = subscribed_plan(call)
        except NotFound:  # the edit says what there is none of
            return [], 0
        found = [row.id] if row.status == "active" else []
        return found, len(found)
    plan = plans.plan_by_code(call.conn, call.organization.id, call.path["code"])
    if plan is None:
        return [], 0
    copies = plans.children(call.conn, plan.id) if cascades(call) else []
    reached = [plan.id, *(child.id for child in copies)]
    return subscriptions.running_on_plans(call.conn, reached, limit=COMPARED_MAX)


def render_preview(found: Preview) -> objects.PricePreview:
    """Amounts by currency; the bills that change most first."""
    by_currency = {total.currency: total for total in found.totals}
    return objects.PricePreview(
        subscriptions=found.subscriptions,
        compared=found.compared,
        changed=found.changed,
        amount_cents_before={code: total.before for code, total in by_currency.items()},
        amount_cents_after={code: total.after for code, total in by_currency.items()},
        difference={code: total.difference for code, total in by_currency.items()},
        most_changed=[_render_change(each) for each in found.most_changed],
    )


def _render_change(change: BillChange) -> objects.BillChange:
    return objects.BillChange(
        external_subscription_id=change.before.external_subscription_id,
        external_customer_id=change.before.external_customer_id,
        currency=change.after.currency,
        amount_cents_before=change.before.amount_cents,
        amount_cents_after=change.after.amount_cents,
        difference=change.difference,
    )
