"""The plan that a subscription has of its own. semantics-billing.md section 2.2."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from permille.api.charge_input import read_overridden_charge
from permille.api.http import Call
from permille.api.metadata import read_metadata
from permille.api.metered import meter
from permille.api.price_changes import edited_plan, save_edit
from permille.api.taxes import known_taxes, read_taxes
from permille.api.validation import INVALID, LONG_TEXT, Fields
from permille.core.contract.override import cascade, copy_plan
from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import Subscription
from permille.core.errors import NotFound
from permille.database import locks
from permille.ids import new_id
from permille.store import billing_holds, plans, subscriptions, unpriced

TRIAL_DAYS_MAX = 36_500
UNBUILT = ("fixed_charges", "usage_thresholds", "minimum_commitment")


def own_copy(call: Call, plan: Plan) -> Plan:
    """A copy of the plan, not stored yet."""
    return copy_plan(plan, new_id=partial(new_id, call.now), now=call.now)


def read_overrides(call: Call, fields: Fields, plan: Plan) -> tuple[Plan, Plan]:
    """The plan, a copy if it is nobody's own yet, and the same with what the request's `plan_overrides` says.

    Problems gather in the fields. Raises NotFound for a charge that the plan does not have.
    """
    given = fields.given.get("plan_overrides")
    if not isinstance(given, dict):
        fields.refuse("plan_overrides", INVALID)
        return plan, plan
    child = plan if plan.parent_id is not None else own_copy(call, plan)
    entry = Fields(given, fields)
    entry.refuse_unbuilt(*UNBUILT)
    return child, replace(child, **_columns(call, entry), charges=_charges(call, entry, child))


def _columns(call: Call, entry: Fields) -> dict[str, Any]:
    read: dict[str, Any] = {}
    if entry.given.get("amount_cents") is not None:
        read["amount_cents"] = entry.whole("amount_cents", minimum=0) or 0
    if entry.given.get("amount_currency") is not None:
        read["amount_currency"] = entry.currency("amount_currency") or ""
    if entry.given.get("name") is not None:
        read["name"] = entry.text("name", mandatory=True) or ""
    if entry.has("invoice_display_name"):
        read["invoice_display_name"] = entry.text("invoice_display_name")
    if entry.has("description"):
        read["description"] = entry.text("description", limit=LONG_TEXT)
    if entry.has("trial_period"):
        read["trial_period"] = entry.decimal("trial_period", minimum=0, maximum=TRIAL_DAYS_MAX)
    if entry.has("metadata"):
        read["metadata"] = read_metadata(entry)
    if (own := read_taxes(entry, known_taxes(call, [entry]))) is not None:
        read["taxes"] = own
    return read


def _charges(call: Call, entry: Fields, child: Plan) -> tuple[Charge, ...]:
    entries = entry.objects("charges") or []
    taxes = known_taxes(call, entries)
    changed: dict[UUID, Charge] = {}
    for one in entries:
        before = _named(child, one.uuid("id"))
        changed[before.id] = read_overridden_charge(one, before, now=call.now, taxes=taxes)
    return tuple(changed.get(charge.id, charge) for charge in child.charges)


def _named(child: Plan, charge_id: UUID | None) -> Charge:
    """By its own id, or by that of the charge it is a copy of."""
    for charge in child.charges:
        if charge_id is not None and charge_id in (charge.id, charge.parent_id):
            return charge
    raise NotFound("charge")


def subscribed_plan(call: Call) -> tuple[Subscription, Plan]:
    """The subscription that the path names, and its plan: of the status asked for, else active or waiting.

    Raises NotFound.
    """
    external_id = call.path["external_id"]
    rows = subscriptions.history(call.conn, call.organization.id, external_id)
    asked = call.query.get("subscription_status") or call.query.get("status")
    statuses = [asked] if asked else ["active", "pending"]
    found = [row for status in statuses for row in rows if row.status == status]
    if not found:
        raise NotFound("subscription")
    return found[0], in_force(plans.plan_by_id(call.conn, found[0].plan_id), call.now)


def plan_to_override(call: Call) -> Plan:
    """The plan of the path's subscription, made its own and stored if it is not yet."""
    locks.change_catalogue(call.conn, call.organization.id)
    locks.change_subscription(call.conn, call.organization.id, call.path["external_id"])
    row, plan = subscribed_plan(call)
    if plan.parent_id is not None:
        return plan
    child = own_copy(call, plan)
    store_own_plan(call, row, child, child)
    return child


def store_own_plan(call: Call, row: Subscription, before: Plan, after: Plan) -> None:
    """Store a plan of a subscription's own, new or changed, and put the subscription on it. Raises Invalid."""
    if row.plan_id == before.id:
        save_edit(call, before, after)
    else:
        plans.add(call.conn, edited_plan(call, before, after))
        columns = {"plan_id": before.id}
        subscriptions.update(call.conn, subscription_id=row.id, columns=columns, now=call.now)
        billing_holds.retry_soon(call.conn, call.organization.id, now=call.now)
        meter(call, after.charges)
    unpriced.recheck_subscriptions(call.conn, call.organization.id, [row.external_id])


def cascade_to_children(call: Call, before: Plan, after: Plan) -> None:
    """Let the plans of single subscriptions follow a change of the plan that they are copies of, from the same
    instant on.
    """
    for child in plans.children(call.conn, before.id):
        own = in_force(child, call.now)
        changed = cascade(before, after, own, new_id=partial(new_id, call.now), now=call.now)
        save_edit(call, own, changed)


def cascades(call: Call) -> bool:
    """Whether the plans of single subscriptions are to follow: said in the body's object, or in the query."""
    body = call.body if isinstance(call.body, dict) else {}
    said = [body, *(body.get(root) for root in ("plan", "charge", "filter"))]
    fields = [Fields(each) for each in said if isinstance(each, dict)]
    return call.query.get("cascade_updates") == "true" or any(each.flag("cascade_updates") for each in fields)
