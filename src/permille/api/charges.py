"""A plan's charges and their filters, one by one; likewise those of one subscription, which then has a plan of its own.

Source: semantics-metering.md sections 4.1 and 5.1, semantics-billing.md sections 2.2 and 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from permille.api.charge_input import (
    ChargesOfPlan,
    filter_properties,
    read_charge,
    read_charges,
    read_filter,
    read_overridden_charge,
    refuse_incompatibilities,
    refuse_other_values,
)
from permille.api.http import Call
from permille.api.overrides import cascade_to_children, cascades, plan_to_override, subscribed_plan
from permille.api.plans import plan_of, render_charge, render_filter
from permille.api.price_changes import save_edit
from permille.api.price_preview import previewable
from permille.api.pricing_units import known_pricing_units
from permille.api.taxes import known_taxes
from permille.api.validation import Fields, parse_uuid
from permille.core.contract.override import filter_key
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.errors import Invalid, NotFound
from permille.database import locks
from permille.store import billable_metrics, plans


def list_charges(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges, or of a subscription, newest first."""
    charges = sorted(_plan(call).charges, key=lambda charge: charge.created_at, reverse=True)
    page = call.page()
    shown = charges[page.offset : page.offset + page.per_page]
    return {"charges": [render_charge(charge) for charge in shown], "meta": page.meta(len(charges))}


def show_charge(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges/{charge_code}."""
    return {"charge": render_charge(_charge(call, _plan(call)))}


@previewable
def create_charge(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/charges. Unlike in a plan's list, the charge's code is mandatory."""
    plan = _plan_to_change(call)
    entry = Fields(call.root("charge"))
    metric_id = entry.uuid("billable_metric_id")
    metrics = billable_metrics.to_price(call.conn, call.organization.id, [metric_id] if metric_id else [])
    if not metrics:
        raise NotFound("billable_metric")
    entry.text("code", mandatory=True)
    kept = [Fields({"id": str(charge.id)}, entry) for charge in plan.charges]
    fresh = Fields({name: value for name, value in entry.given.items() if name != "id"}, entry)
    context = ChargesOfPlan(
        plan_id=plan.id,
        existing=plan.charges,
        metrics=metrics,
        is_subscribed=True,
        now=call.now,
        taxes=known_taxes(call, [entry]),
        pricing_units=known_pricing_units(call, [entry]),
    )
    charges = read_charges([*kept, fresh], context)
    entry.check()
    _save(call, plan, charges)
    return {"charge": render_charge(charges[-1])}


@previewable
def update_charge(call: Call) -> dict[str, Any]:
    """PUT /plans/{code}/charges/{charge_code}, or of a subscription."""
    plan = _plan_to_change(call)
    before = _charge(call, plan)
    entry = Fields(call.root("charge"))
    taxes = known_taxes(call, [entry])
    if _is_of_subscription(call):
        after = read_overridden_charge(entry, before, now=call.now, taxes=taxes)
    else:
        is_subscribed = plans.is_subscribed(call.conn, plan.id)
        after = read_charge(
            entry,
            before,
            is_subscribed=is_subscribed,
            now=call.now,
            taxes=taxes,
            pricing_units=known_pricing_units(call, [entry]),
        )
    entry.check()
    if any(charge.code == after.code for charge in plan.charges if charge.id != after.id):
        raise Invalid({"code": ["value_already_exist"]})
    _save_one(call, plan, after)
    return {"charge": render_charge(after)}


@previewable
def delete_charge(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/charges/{charge_code}: its usage is not billed any more."""
    plan = _plan_to_change(call)
    gone = _charge(call, plan)
    _save(call, plan, [charge for charge in plan.charges if charge.id != gone.id])
    return {"charge": render_charge(gone)}


def list_filters(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges/{charge_code}/filters."""
    charge = _charge(call, _plan(call))
    page = call.page()
    shown = charge.filters[page.offset : page.offset + page.per_page]
    return {
        "filters": [render_filter(charge, entry) for entry in shown],
        "meta": page.meta(len(charge.filters)),
    }


def show_filter(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges/{charge_code}/filters/{filter_id}."""
    charge = _charge(call, _plan(call))
    return {"filter": render_filter(charge, _filter(call, charge))}


@previewable
def create_filter(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/charges/{charge_code}/filters."""
    plan = _plan_to_change(call)
    charge = _charge(call, plan)
    entry = Fields(call.root("filter"))
    fresh = read_filter(entry, charge, now=call.now)
    changed = replace(charge, filters=(*charge.filters, fresh))
    refuse_incompatibilities(entry, changed)
    entry.check()
    if any(filter_key(known.values) == filter_key(fresh.values) for known in charge.filters):
        raise Invalid({"values": ["value_already_exist"]})
    _save_one(call, plan, changed)
    return {"filter": render_filter(charge, fresh)}


@previewable
def update_filter(call: Call) -> dict[str, Any]:
    """PUT .../filters/{filter_id}: its name and its prices; its values never change."""
    plan = _plan_to_change(call)
    charge = _charge(call, plan)
    before = _filter(call, charge)
    entry = Fields(call.root("filter"))
    refuse_other_values(entry, before)
    after = before
    if entry.has("invoice_display_name"):
        after = replace(after, invoice_display_name=entry.text("invoice_display_name"))
    if entry.has("properties"):
        after = replace(after, properties=filter_properties(entry, charge))
    filters = tuple(after if known.id == after.id else known for known in charge.filters)
    changed = replace(charge, filters=filters)
    refuse_incompatibilities(entry, changed)
    entry.check()
    _save_one(call, plan, changed)
    return {"filter": render_filter(charge, after)}


@previewable
def delete_filter(call: Call) -> dict[str, Any]:
    """DELETE .../filters/{filter_id}: its usage gets the price of the next filter that matches, or the charge's."""
    plan = _plan_to_change(call)
    charge = _charge(call, plan)
    gone = _filter(call, charge)
    filters = tuple(known for known in charge.filters if known.id != gone.id)
    _save_one(call, plan, replace(charge, filters=filters))
    return {"filter": render_filter(charge, gone)}


def _is_of_subscription(call: Call) -> bool:
    return "external_id" in call.path


def _plan(call: Call) -> Plan:
    return subscribed_plan(call)[1] if _is_of_subscription(call) else plan_of(call)


def _plan_to_change(call: Call) -> Plan:
    if _is_of_subscription(call):
        return plan_to_override(call)
    locks.change_catalogue(call.conn, call.organization.id)
    return plan_of(call)


def _charge(call: Call, plan: Plan) -> Charge:
    for charge in plan.charges:
        if charge.code == call.path["charge_code"]:
            return charge
    raise NotFound("charge")


def _filter(call: Call, charge: Charge) -> PlanFilter:
    filter_id = parse_uuid(call.path["filter_id"])
    for entry in charge.filters:
        if entry.id == filter_id:
            return entry
    values = (
        plans.filter_values(call.conn, charge.parent_id, filter_id)
        if charge.parent_id and filter_id
        else None
    )
    for entry in charge.filters:
        if values is not None and filter_key(entry.values) == filter_key(values):
            return entry
    raise NotFound("charge_filter")


def _save_one(call: Call, plan: Plan, changed: Charge) -> None:
    _save(call, plan, [changed if charge.id == changed.id else charge for charge in plan.charges])


def _save(call: Call, plan: Plan, charges: Sequence[Charge]) -> None:
    after = replace(plan, charges=tuple(charges))
    save_edit(call, plan, after)
    if plan.parent_id is None and cascades(call):
        cascade_to_children(call, plan, after)
