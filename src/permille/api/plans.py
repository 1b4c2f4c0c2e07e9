"""Plans: a subscription fee per interval, and charges. semantics-billing.md section 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from msgspec import UNSET

from permille.api.charge_input import ChargesOfPlan, read_charges
from permille.api.http import Call
from permille.api.metadata import read_metadata
from permille.api.metered import meter
from permille.api.objects import charge as charge_objects, plan as objects
from permille.api.objects.base import Number
from permille.api.overrides import cascade_to_children, cascades
from permille.api.price_changes import save_edit
from permille.api.price_preview import previewable
from permille.api.pricing_units import known_pricing_units, render_applied
from permille.api.render import exact_numbers, instant
from permille.api.taxes import known_taxes, read_taxes, render_tax
from permille.api.validation import INVALID, LONG_TEXT, Fields
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.price_versions import PriceChange, changes_to_show, in_force
from permille.core.errors import Invalid, NotFound
from permille.core.money import decimal_text
from permille.core.period import Interval
from permille.database import locks
from permille.ids import new_id
from permille.store import billable_metrics, plans, subscriptions, webhooks
from permille.usecases import subscriptions as lifecycle
from permille.usecases.invoices import drafts

INTERVALS = tuple(Interval)
MONTHLY_CHARGES = (Interval.YEARLY, Interval.SEMIANNUAL)
TRIAL_DAYS_MAX = 36_500
UNBUILT = ("fixed_charges", "usage_thresholds", "minimum_commitment", "entitlements")


def create_plan(call: Call) -> dict[str, Any]:
    """POST /plans."""
    fields = Fields(call.root("plan"))
    locks.change_catalogue(call.conn, call.organization.id)
    blank = _blank(call)
    read = {**_always_editable(call, fields, blank), **_structure(fields, blank)}
    plan = replace(blank, **read)
    plan = replace(plan, charges=_charges(call, fields, plan, is_subscribed=False))
    fields.check()
    if not plans.add(call.conn, plan):
        raise Invalid({"code": ["value_already_exist"]})
    return _changed(call, before=blank, after=plan, what="created")


def _blank(call: Call) -> Plan:
    """What a new plan is read over: mandatory fields are missing from it."""
    return Plan(
        id=new_id(call.now),
        organization_id=call.organization.id,
        parent_id=None,
        code="",
        name="",
        invoice_display_name=None,
        description=None,
        interval="",
        amount_cents=-1,
        amount_currency="",
        pay_in_advance=False,
        trial_period=None,
        bill_charges_monthly=None,
        bill_fixed_charges_monthly=None,
        metadata=None,
        charges=(),
        created_at=call.now,
    )


def _always_editable(call: Call, fields: Fields, plan: Plan) -> dict[str, Any]:
    """The fields that may change at any time; what is not sent stays, and what was never set is due."""
    fields.refuse_unbuilt(*UNBUILT)
    read: dict[str, Any] = {}
    if fields.has("name") or not plan.name:
        read["name"] = fields.text("name", mandatory=True) or ""
    if fields.has("amount_cents") or plan.amount_cents < 0:
        if fields.given.get("amount_cents") is None:
            fields.refuse("amount_cents", INVALID)
        read["amount_cents"] = fields.whole("amount_cents", minimum=0) or 0
    if fields.has("invoice_display_name"):
        read["invoice_display_name"] = fields.text("invoice_display_name")
    if fields.has("description"):
        read["description"] = fields.text("description", limit=LONG_TEXT)
    if fields.has("metadata"):
        read["metadata"] = read_metadata(fields)
    if (own := read_taxes(fields, known_taxes(call, [fields]))) is not None:
        read["taxes"] = own
    return read


def _structure(fields: Fields, plan: Plan) -> dict[str, Any]:
    """The fields that are fixed as soon as somebody has subscribed."""
    read: dict[str, Any] = {}
    if fields.has("code") or not plan.code:
        read["code"] = fields.text("code", mandatory=True) or ""
    if fields.has("interval") or not plan.interval:
        read["interval"] = fields.choice("interval", INTERVALS, mandatory=True) or ""
    if fields.has("amount_currency") or not plan.amount_currency:
        read["amount_currency"] = fields.currency("amount_currency", mandatory=True) or ""
    if (in_advance := fields.flag("pay_in_advance")) is not None:
        read["pay_in_advance"] = in_advance
    if fields.has("trial_period"):
        read["trial_period"] = fields.decimal("trial_period", minimum=0, maximum=TRIAL_DAYS_MAX)
    splits = read.get("interval", plan.interval) in MONTHLY_CHARGES
    for name in ("bill_charges_monthly", "bill_fixed_charges_monthly"):
        wanted = fields.flag(name) if fields.has(name) else getattr(plan, name)
        read[name] = bool(wanted) if splits else None
    return read


def _charges(call: Call, fields: Fields, plan: Plan, *, is_subscribed: bool) -> tuple[Charge, ...]:
    """The plan's charges after the request. Raises NotFound for a metric that there is not."""
    entries = fields.objects("charges")
    if entries is None:
        return plan.charges
    known = {charge.id for charge in plan.charges}
    fresh = [entry for entry in entries if entry.uuid("id") not in known]
    wanted = {entry.uuid("billable_metric_id") for entry in fresh}
    metrics = billable_metrics.to_price(call.conn, call.organization.id, {one for one in wanted if one})
    if wanted - metrics.keys():
        raise NotFound("billable_metrics")
    context = ChargesOfPlan(
        plan_id=plan.id,
        existing=plan.charges,
        metrics=metrics,
        is_subscribed=is_subscribed,
        now=call.now,
        taxes=known_taxes(call, entries),
        pricing_units=known_pricing_units(call, entries),
    )
    return read_charges(entries, context)


def list_plans(call: Call) -> dict[str, Any]:
    """GET /plans."""
    page = call.page()
    rows, total = plans.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"plans": [render_plan(row, now=call.now) for row in rows], "meta": page.meta(total)}


def show_plan(call: Call) -> dict[str, Any]:
    """GET /plans/{code}."""
    return {"plan": render_plan(plan_of(call), now=call.now)}


@previewable
def update_plan(call: Call) -> dict[str, Any]:
    """PUT /plans/{code}. The structure of a plan with subscriptions stays as it is, without an error."""
    locks.change_catalogue(call.conn, call.organization.id)
    before = plan_of(call)
    fields = Fields(call.root("plan"))
    is_subscribed = plans.is_subscribed(call.conn, before.id)
    read = _always_editable(call, fields, before)
    if not is_subscribed:
        read |= _structure(fields, before)
    after = replace(before, **read)
    after = replace(after, charges=_charges(call, fields, after, is_subscribed=is_subscribed))
    fields.flag("cascade_updates")
    fields.check()
    if plans.code_is_taken(call.conn, after):
        raise Invalid({"code": ["value_already_exist"]})
    saved = save_edit(call, before, after)
    if cascades(call):
        cascade_to_children(call, before, after)
    if after.amount_cents != before.amount_cents:
        lifecycle.follow_amounts(call.conn, after.id, now=call.now)
    return _changed(call, before=before, after=saved, what="updated")


def delete_plan(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}: its subscriptions end now, and are billed."""
    locks.change_catalogue(call.conn, call.organization.id)
    plan = plan_of(call)
    lifecycle.end_all(call.conn, subscriptions.living_of_plan(call.conn, plan.id), now=call.now)
    drafts.finalize_of_subscriptions(call.conn, subscriptions.ids_of_plan(call.conn, plan.id), at=call.now)
    plans.delete(call.conn, plan_id=plan.id, now=call.now)
    return _changed(call, before=plan, after=plan, what="deleted")


def plan_of(call: Call) -> Plan:
    """The plan that the path names. Raises NotFound."""
    found = plans.plan_by_code(call.conn, call.organization.id, call.path["code"])
    if found is None:
        raise NotFound("plan")
    return in_force(found, call.now)


def _changed(call: Call, *, before: Plan, after: Plan, what: str) -> dict[str, Any]:
    meter(call, [*before.charges, *after.charges])
    webhooks.enqueue(
        call.conn,
        organization_id=call.organization.id,
        webhook_type=f"plan.{what}",
        object_type="plan",
        object_ids=[after.id],
        payload=None,
        now=call.now,
    )
    return {"plan": render_plan(after, now=call.now, pending_deletion=what == "deleted")}


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
        fixed_charges=[],
        entitlements=[],
        usage_thresholds=[],
        applicable_usage_thresholds=[],
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
