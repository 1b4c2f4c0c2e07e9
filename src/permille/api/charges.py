"""A plan's charges and their filters, one by one; likewise those of one subscription, which then has a plan of its own.

Source: semantics-metering.md sections 4.1 and 5.1, semantics-billing.md sections 2.2 and 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from permille.api.charge_input import (
    filter_properties,
    read_added_charge,
    read_changed_charge,
    read_filter,
    refuse_incompatibilities,
    refuse_other_values,
)
from permille.api.http import Call
from permille.api.plans import plan_of, render_charge, render_filter
from permille.api.price_changes import cascades, read_since
from permille.api.price_preview import previewable
from permille.api.validation import Fields, parse_uuid
from permille.core.contract.override import filter_key
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.subscription import Subscription
from permille.core.errors import Invalid, NotFound
from permille.core.record import replace
from permille.store import plans
from permille.usecases.catalogue import own_plans, plans as catalogue
from permille.usecases.catalogue.plans import charge_by_code, with_charge, without_charge


def list_charges(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges, or of a subscription, newest first."""
    charges = sorted(shown_plan(call).charges, key=lambda charge: charge.created_at, reverse=True)
    page = call.page()
    shown = charges[page.offset : page.offset + page.per_page]
    return {"charges": [render_charge(charge) for charge in shown], "meta": page.meta(len(charges))}


def show_charge(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges/{charge_code}."""
    return {"charge": render_charge(charge_by_code(shown_plan(call), call.path["charge_code"]))}


@previewable
def create_charge(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/charges. Unlike in a plan's list, the charge's code is mandatory."""
    plan = plan_to_change(call)
    charges = read_added_charge(call.conn, Fields(call.root("charge")), plan, now=call.now)
    _save(call, plan, charges)
    return {"charge": render_charge(charges[-1])}


@previewable
def update_charge(call: Call) -> dict[str, Any]:
    """PUT /plans/{code}/charges/{charge_code}, or of a subscription."""
    plan = plan_to_change(call)
    before = charge_by_code(plan, call.path["charge_code"])
    after = read_changed_charge(call.conn, Fields(call.root("charge")), plan, before, now=call.now)
    _save(call, plan, with_charge(plan, after))
    return {"charge": render_charge(after)}


@previewable
def delete_charge(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/charges/{charge_code}: its usage is not billed any more."""
    plan = plan_to_change(call)
    gone = charge_by_code(plan, call.path["charge_code"])
    _save(call, plan, without_charge(plan, gone))
    return {"charge": render_charge(gone)}


def list_filters(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges/{charge_code}/filters."""
    charge = charge_by_code(shown_plan(call), call.path["charge_code"])
    page = call.page()
    shown = charge.filters[page.offset : page.offset + page.per_page]
    return {
        "filters": [render_filter(charge, entry) for entry in shown],
        "meta": page.meta(len(charge.filters)),
    }


def show_filter(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/charges/{charge_code}/filters/{filter_id}."""
    charge = charge_by_code(shown_plan(call), call.path["charge_code"])
    return {"filter": render_filter(charge, _filter(call, charge))}


@previewable
def create_filter(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/charges/{charge_code}/filters."""
    plan = plan_to_change(call)
    charge = charge_by_code(plan, call.path["charge_code"])
    entry = Fields(call.root("filter"))
    fresh = read_filter(entry, charge, now=call.now)
    changed = replace(charge, filters=(*charge.filters, fresh))
    refuse_incompatibilities(entry, changed)
    entry.check()
    if any(filter_key(known.values) == filter_key(fresh.values) for known in charge.filters):
        raise Invalid({"values": ["value_already_exist"]})
    _save(call, plan, with_charge(plan, changed))
    return {"filter": render_filter(charge, fresh)}


@previewable
def update_filter(call: Call) -> dict[str, Any]:
    """PUT .../filters/{filter_id}: its name and its prices; its values never change."""
    plan = plan_to_change(call)
    charge = charge_by_code(plan, call.path["charge_code"])
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
    _save(call, plan, with_charge(plan, changed))
    return {"filter": render_filter(charge, after)}


@previewable
def delete_filter(call: Call) -> dict[str, Any]:
    """DELETE .../filters/{filter_id}: its usage gets the price of the next filter that matches, or the charge's."""
    plan = plan_to_change(call)
    charge = charge_by_code(plan, call.path["charge_code"])
    gone = _filter(call, charge)
    filters = tuple(known for known in charge.filters if known.id != gone.id)
    _save(call, plan, with_charge(plan, replace(charge, filters=filters)))
    return {"filter": render_filter(charge, gone)}


def is_of_subscription(call: Call) -> bool:
    """Whether the path names a subscription, not a plan."""
    return "external_id" in call.path


def shown_plan(call: Call) -> Plan:
    """The plan that the path names, or that of its subscription. Raises NotFound."""
    return subscribed_plan(call)[1] if is_of_subscription(call) else plan_of(call)


def subscribed_plan(call: Call) -> tuple[Subscription, Plan]:
    """The subscription that the path names, and its plan: of the status asked for, else active or waiting."""
    return own_plans.subscribed(
        call.conn, call.organization.id, call.path["external_id"], status=_status(call), now=call.now
    )


def _status(call: Call) -> str | None:
    return call.query.get("subscription_status") or call.query.get("status")


def plan_to_change(call: Call) -> Plan:
    """Likewise, to change it: a subscription gets a plan of its own. Raises NotFound."""
    organization_id, since = call.organization.id, read_since(call)
    if not is_of_subscription(call):
        return catalogue.to_change(call.conn, organization_id, call.path["code"], since=since, now=call.now)
    external_id = call.path["external_id"]
    return own_plans.to_change(
        call.conn, organization_id, external_id, status=_status(call), since=since, now=call.now
    )


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


def _save(call: Call, plan: Plan, charges: Sequence[Charge]) -> None:
    catalogue.change_charges(
        call.conn, plan, charges, since=read_since(call), cascades=cascades(call), now=call.now
    )
