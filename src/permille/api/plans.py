"""Plans: a subscription fee per interval, and charges. semantics-billing.md section 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET
from psycopg import Connection

from permille.api.commitments import render_commitment
from permille.api.features import render_plan_entitlement
from permille.api.fixed_charge_input import render_fixed_charge, units_at_once
from permille.api.http import Call
from permille.api.objects import charge as charge_objects, plan as objects
from permille.api.objects.base import Number
from permille.api.plan_input import read_plan
from permille.api.price_changes import cascades, read_since
from permille.api.price_preview import previewable
from permille.api.pricing_units import render_applied
from permille.api.render import exact_numbers, instant
from permille.api.taxes import render_tax
from permille.api.usage_thresholds import render_applicable, render_threshold
from permille.api.validation import Fields
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.price_versions import PriceChange, changes_to_show, in_force
from permille.core.money import decimal_text
from permille.store import plans
from permille.usecases.catalogue import features, plans as catalogue


def create_plan(call: Call) -> dict[str, Any]:
    """POST /plans."""
    fields = Fields(call.root("plan"))
    plan = read_plan(
        call.conn, fields, catalogue.blank(call.conn, call.organization.id, now=call.now), now=call.now
    )
    fields.check()
    catalogue.add(call.conn, plan)
    return _shown(call, plan)


def list_plans(call: Call) -> dict[str, Any]:
    """GET /plans."""
    page = call.page()
    rows, total = plans.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"plans": render_plans(call.conn, rows, now=call.now), "meta": page.meta(total)}


def show_plan(call: Call) -> dict[str, Any]:
    """GET /plans/{code}."""
    return _shown(call, plan_of(call))


@previewable
def update_plan(call: Call) -> dict[str, Any]:
    """PUT /plans/{code}. The structure of a plan with subscriptions stays as it is, without an error."""
    since = read_since(call)
    before = catalogue.to_change(
        call.conn, call.organization.id, call.path["code"], since=since, now=call.now
    )
    fields = Fields(call.root("plan"))
    after = read_plan(call.conn, fields, before, now=call.now)
    fields.flag("cascade_updates")
    fields.check()
    saved = catalogue.change(
        call.conn,
        before,
        after,
        since=since,
        cascades=cascades(call),
        units_at_once=units_at_once(fields, after.fixed_charges),
        now=call.now,
    )
    return _shown(call, saved)


def delete_plan(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}: its subscriptions end now, and are billed."""
    plan = catalogue.to_change(call.conn, call.organization.id, call.path["code"], now=call.now)
    catalogue.remove(call.conn, plan, now=call.now)
    return {"plan": render_plan(plan, now=call.now, pending_deletion=True)}


def plan_of(call: Call) -> Plan:
    """The plan that the path names. Raises NotFound."""
    return catalogue.by_code(call.conn, call.organization.id, call.path["code"], now=call.now)


def _shown(call: Call, plan: Plan) -> dict[str, Any]:
    return {"plan": render_plans(call.conn, [plan], now=call.now)[0]}


def render_plans(conn: Connection[Any], rows: Sequence[Plan], *, now: datetime) -> list[objects.Plan]:
    """Plans with the features that they grant."""
    granted = features.of_plans(conn, rows)
    shown = [render_plan(row, now=now) for row in rows]
    for row, each in zip(rows, shown, strict=True):
        each.entitlements = [render_plan_entitlement(one) for one in granted[row.id]]
    return shown


def render_plan(plan: Plan, *, now: datetime, pending_deletion: bool = False) -> objects.Plan:
    """The plan with the prices in force and the changes to come. `metadata` is left out when there is none."""
    shown = in_force(plan, now)
    return objects.Plan(
        lago_id=plan.id,
        name=plan.name,
        invoice_display_name=plan.invoice_display_name,
        created_at=instant(plan.created_at),
        code=plan.code,
        interval=plan.interval,
        description=plan.description,
        amount_cents=shown.amount_cents,
        amount_currency=plan.amount_currency,
        trial_period=None if plan.trial_period is None else Number(decimal_text(plan.trial_period)),
        pay_in_advance=plan.pay_in_advance,
        bill_charges_monthly=plan.bill_charges_monthly,
        bill_fixed_charges_monthly=plan.bill_fixed_charges_monthly,
        customers_count=0,
        active_subscriptions_count=0,
        draft_invoices_count=0,
        parent_id=plan.parent_id,
        pending_deletion=pending_deletion,
        charges=[render_charge(charge) for charge in shown.charges],
        scheduled_changes=[render_change(each) for each in changes_to_show(plan, now)],
        fixed_charges=[render_fixed_charge(charge) for charge in plan.fixed_charges],
        entitlements=[],
        usage_thresholds=[render_threshold(each) for each in plan.usage_thresholds],
        applicable_usage_thresholds=render_applicable(plan.applicable_thresholds),
        minimum_commitment=render_commitment(plan),
        taxes=[render_tax(tax) for tax in plan.taxes],
        metadata=UNSET if plan.metadata is None else plan.metadata,
    )


def render_change(change: PriceChange) -> objects.ScheduledChange:
    """The fee and the charges from an instant on."""
    return objects.ScheduledChange(
        lago_id=change.id,
        effective_at=instant(change.at),
        amount_cents=change.amount_cents,
        charges=[render_charge(charge) for charge in change.charges],
    )


def render_charge(charge: Charge) -> charge_objects.Charge:
    return charge_objects.Charge(
        lago_id=charge.id,
        lago_billable_metric_id=charge.metric.id,
        code=charge.code,
        invoice_display_name=charge.invoice_display_name,
        billable_metric_code=charge.metric.code,
        created_at=instant(charge.created_at),
        charge_model=charge.charge_model,
        invoiceable=charge.invoiceable,
        regroup_paid_fees=charge.regroup_paid_fees,
        pay_in_advance=charge.pay_in_advance,
        prorated=charge.prorated,
        min_amount_cents=charge.min_amount_cents,
        accepts_target_wallet=charge.accepts_target_wallet,
        unlisted_values=charge.unlisted_values,
        rounding=charge.rounding,
        properties=render_properties(charge.properties),
        applied_pricing_unit=render_applied(charge.applied_pricing_unit),
        lago_parent_id=charge.parent_id,
        filters=[render_filter(charge, entry) for entry in charge.filters],
        taxes=[render_tax(tax) for tax in charge.taxes],
    )


def render_filter(charge: Charge, entry: PlanFilter) -> charge_objects.ChargeFilter:
    return charge_objects.ChargeFilter(
        lago_id=entry.id,
        charge_code=charge.code,
        invoice_display_name=entry.invoice_display_name,
        properties=render_properties(entry.properties),
        values=entry.values,
    )


def render_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """As stored, numbers as numbers; the grouping keys also under their former name."""
    shown = {key: exact_numbers(value) for key, value in properties.items()}
    if "pricing_group_keys" in shown:
        shown["grouped_by"] = shown["pricing_group_keys"]
    return shown
