"""Fixed charges of a plan, one by one; likewise of one subscription: its units, or a plan of its own. semantics-billing.md 6.1."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from permille.api.charges import is_of_subscription, plan_to_change, shown_plan, subscribed_plan
from permille.api.fixed_charge_input import (
    is_of_units_alone,
    read_added,
    read_fixed_charge,
    read_own_fixed_charge,
    read_units,
    render_fixed_charge,
)
from permille.api.http import Call
from permille.api.price_changes import cascades, read_since
from permille.api.price_preview import previewable
from permille.api.taxes import known_taxes
from permille.api.validation import Fields
from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Plan
from permille.core.errors import Invalid
from permille.core.record import replace
from permille.store import fixed_charges, plans
from permille.usecases.catalogue import fixed_units, own_plans, plans as catalogue
from permille.usecases.catalogue.fixed_units import by_code, with_own_units


def list_fixed_charges(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/fixed_charges, or of a subscription, newest first."""
    charges = sorted(_shown(call).fixed_charges, key=lambda charge: charge.created_at, reverse=True)
    page = call.page()
    shown = charges[page.offset : page.offset + page.per_page]
    return {
        "fixed_charges": [render_fixed_charge(charge) for charge in shown],
        "meta": page.meta(len(charges)),
    }


def show_fixed_charge(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/fixed_charges/{fixed_charge_code}."""
    return {"fixed_charge": render_fixed_charge(by_code(_shown(call), call.path["fixed_charge_code"]))}


def _shown(call: Call) -> Plan:
    """The plan that the path names; of a subscription, with the units that it has of its own. Raises NotFound."""
    if not is_of_subscription(call):
        return shown_plan(call)
    row, plan = subscribed_plan(call)
    return plan if plan.parent_id else with_own_units(plan, fixed_charges.own_units(call.conn, row.id))


@previewable
def create_fixed_charge(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/fixed_charges."""
    plan, entry = plan_to_change(call), Fields(call.root("fixed_charge"))
    charges = read_added(call.conn, entry, plan, now=call.now)
    _save(call, plan, charges, charges[-1], entry)
    return {"fixed_charge": render_fixed_charge(charges[-1])}


@previewable
def update_fixed_charge(call: Call) -> dict[str, Any]:
    """PUT /plans/{code}/fixed_charges/{fixed_charge_code}, or of a subscription."""
    entry = Fields(call.root("fixed_charge"))
    is_own = is_of_subscription(call) and is_of_units_alone(entry)
    if is_own and (shown := _own_units(call, entry)) is not None:
        return {"fixed_charge": render_fixed_charge(shown)}
    plan = plan_to_change(call)
    before = by_code(plan, call.path["fixed_charge_code"])
    taxes = known_taxes(call.conn, plan.organization_id, [entry])
    if plan.parent_id is not None:
        after = read_own_fixed_charge(entry, before, taxes=taxes)
    else:
        is_subscribed = plans.is_subscribed(call.conn, plan.id)
        after = read_fixed_charge(entry, before, is_subscribed=is_subscribed, taxes=taxes)
    entry.check()
    others = [charge for charge in plan.fixed_charges if charge.id != after.id]
    if any(charge.code == after.code for charge in others):
        raise Invalid({"code": ["value_already_exist"]})
    charges = [after if charge.id == after.id else charge for charge in plan.fixed_charges]
    _save(call, plan, charges, after, entry)
    return {"fixed_charge": render_fixed_charge(after)}


def _own_units(call: Call, entry: Fields) -> FixedCharge | None:
    """Units alone: kept with the subscription. None where it is on a plan of its own, which has its units."""
    row = own_plans.row_to_change(
        call.conn,
        call.organization.id,
        call.path["external_id"],
        status=call.query.get("subscription_status") or call.query.get("status"),
        now=call.now,
    )
    plan = own_plans.current(call.conn, row, now=call.now)
    if plan.parent_id is not None:
        return None
    charge, wanted = by_code(plan, call.path["fixed_charge_code"]), read_units(entry)
    entry.check()
    assert wanted is not None, "checked"
    if wanted.units != charge.units and read_since(call) is not None:
        raise Invalid({"units": ["cannot_be_scheduled"]})
    fixed_units.set_own(call.conn, row, plan, {charge.id: wanted}, now=call.now)
    return replace(charge, units=wanted.units)


@previewable
def delete_fixed_charge(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/fixed_charges/{fixed_charge_code}: it is not billed any more."""
    plan = plan_to_change(call)
    gone = by_code(plan, call.path["fixed_charge_code"])
    left = [charge for charge in plan.fixed_charges if charge.id != gone.id]
    _change(call, plan, left)
    return {"fixed_charge": render_fixed_charge(gone)}


def _save(
    call: Call, plan: Plan, charges: Sequence[FixedCharge], changed: FixedCharge, entry: Fields
) -> None:
    at_once = {changed.id} if entry.flag("apply_units_immediately") else set()
    _change(call, plan, charges, units_at_once=at_once)


def _change(
    call: Call, plan: Plan, charges: Sequence[FixedCharge], *, units_at_once: Collection[UUID] = ()
) -> None:
    since, follow = read_since(call), cascades(call)
    catalogue.change_fixed_charges(
        call.conn, plan, charges, since=since, cascades=follow, units_at_once=units_at_once, now=call.now
    )
