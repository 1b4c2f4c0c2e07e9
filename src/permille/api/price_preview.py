"""`dry_run`: an edit of prices answers what it would do to the running bills, and saves nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from permille.api.http import Call
from permille.api.objects import price_preview as objects
from permille.api.price_changes import beside, cascades
from permille.core.rating.price_preview import BillChange, Preview
from permille.database import locks
from permille.usecases.catalogue.price_preview import preview, reached_by_own_plan, reached_by_plan

Edit = Callable[[Call], dict[str, Any]]


def previewable(edit: Edit) -> Edit:
    """An edit of prices that can be asked for with `dry_run`, beside the root object or in the query."""

    @wraps(edit)
    def answer(call: Call) -> dict[str, Any]:
        return {"dry_run": render_preview(_preview(call, edit))} if _is_dry_run(call) else edit(call)

    return answer


def _is_dry_run(call: Call) -> bool:
    fields = beside(call, "dry_run")
    wanted = fields.flag("dry_run")
    fields.check()
    return bool(wanted)


def _preview(call: Call, edit: Edit) -> Preview:
    """What the edit would do. Raises what it raises."""
    organization_id = call.organization.id
    locks.change_catalogue(call.conn, organization_id)
    if "external_id" in call.path:
        status = call.query.get("subscription_status") or call.query.get("status")
        reached = reached_by_own_plan(
            call.conn, organization_id, call.path["external_id"], status=status, now=call.now
        )
    else:
        reached = reached_by_plan(call.conn, organization_id, call.path["code"], with_copies=cascades(call))
    return preview(call.conn, lambda: edit(call), reached, now=call.now)


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
