"""Reading plans out of a request or a form. semantics-billing.md section 2."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.api.charge_input import ChargesOfPlan, read_charges
from permille.api.commitments import read_commitment
from permille.api.fixed_charge_input import read_fixed_charges
from permille.api.metadata import read_metadata
from permille.api.pricing_units import known_pricing_units
from permille.api.taxes import known_taxes, read_taxes
from permille.api.usage_thresholds import read_thresholds
from permille.api.validation import INVALID, LONG_TEXT, Fields
from permille.core.contract.plan import Charge, Plan
from permille.core.errors import NotFound
from permille.core.period import Interval
from permille.core.record import replace
from permille.store import billable_metrics, plans

INTERVALS = tuple(Interval)
MONTHLY_CHARGES = (Interval.YEARLY, Interval.SEMIANNUAL)
TRIAL_DAYS_MAX = 36_500
UNBUILT = ("entitlements",)


def read_plan(conn: Connection[Any], fields: Fields, before: Plan, *, now: datetime) -> Plan:
    """The plan as the fields want it: a new one over a blank one, or a known one changed.

    Problems gather in the fields; what is returned then is not to be used. Raises NotFound for a metric or a tax
    that there is not.
    """
    is_subscribed = plans.is_subscribed(conn, before.id)
    read = _always_editable(conn, fields, before, now=now)
    if not is_subscribed:
        read |= _structure(fields, before)
    after = replace(before, **read)
    charges = _charges(conn, fields, after, is_subscribed=is_subscribed, now=now)
    fixed = read_fixed_charges(conn, fields, after, is_subscribed=is_subscribed, now=now)
    return replace(after, charges=charges, fixed_charges=fixed)


def _always_editable(conn: Connection[Any], fields: Fields, plan: Plan, *, now: datetime) -> dict[str, Any]:
    """The fields that may change at any time; what is not sent stays, and what was never set is due."""
    fields.refuse_unbuilt(*UNBUILT)
    read: dict[str, Any] = {
        "minimum_commitment": read_commitment(conn, fields, plan, now=now),
        "usage_thresholds": read_thresholds(fields, plan.usage_thresholds, now=now),
    }
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
    if (own := read_taxes(fields, known_taxes(conn, plan.organization_id, [fields]))) is not None:
        read["taxes"] = own
    return read


def _structure(fields: Fields, plan: Plan) -> dict[str, Any]:
    """The fields that are fixed as soon as somebody has subscribed."""
    read: dict[str, Any] = {}
    if fields.has("code") or not plan.code:
        read["code"] = fields.text("code", mandatory=True) or ""
    if (fields.has("interval") or not plan.code) and (
        interval := fields.choice("interval", INTERVALS, mandatory=True)
    ):
        read["interval"] = Interval(interval)
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


def _charges(
    conn: Connection[Any], fields: Fields, plan: Plan, *, is_subscribed: bool, now: datetime
) -> tuple[Charge, ...]:
    """The plan's charges after the request. Raises NotFound for a metric that there is not."""
    entries = fields.objects("charges")
    if entries is None:
        return plan.charges
    known = {charge.id for charge in plan.charges}
    fresh = [entry for entry in entries if entry.uuid("id") not in known]
    wanted = {entry.uuid("billable_metric_id") for entry in fresh}
    metrics = billable_metrics.to_price(conn, plan.organization_id, {one for one in wanted if one})
    if wanted - metrics.keys():
        raise NotFound("billable_metrics")
    context = ChargesOfPlan(
        plan_id=plan.id,
        existing=plan.charges,
        metrics=metrics,
        is_subscribed=is_subscribed,
        now=now,
        taxes=known_taxes(conn, plan.organization_id, entries),
        pricing_units=known_pricing_units(conn, plan.organization_id, entries),
        currency=plan.amount_currency,
    )
    return read_charges(entries, context)
