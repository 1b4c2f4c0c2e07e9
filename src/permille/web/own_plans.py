"""The plan of one subscription: its prices, which can be its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from permille.api.charge_input import read_changed_charge
from permille.api.overrides import read_overrides
from permille.api.validation import Fields
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, thresholds_on
from permille.database import locks
from permille.store import customers, fixed_charges
from permille.usecases.catalogue import fixed_units, own_plans, subscriptions
from permille.usecases.catalogue.plans import change_charges, charge_by_code, with_charge
from permille.web import price_grid, scheduled_changes
from permille.web.agreed_amounts import read_amounts, shown_amounts
from permille.web.charge_form import amount_text, known_taxes, read_charge, read_least, read_taxes, to_cents
from permille.web.charges import edit_page
from permille.web.plans import FEE_CHANGE, FIELDS, priced_plan
from permille.web.price_effect import PriceChange, save_fee, save_prices
from permille.web.shown import in_path
from permille.web.visit import Done, HtmlPage, Visit

KEPT = (
    "invoice_display_name",
    "properties",
    "filters",
    "unlisted_values",
    "rounding",
    "accepts_target_wallet",
    "applied_pricing_unit",
    "tax_codes",
)
"""What a subscription can have of its own in a charge, beside the minimum charge."""


def own_plan_url(external_id: str) -> str:
    return f"/app/own-plan/{in_path(external_id)}"


def _subscribed(visit: Visit) -> tuple[Subscription, Plan]:
    return own_plans.subscribed(visit.conn, visit.here.id, visit.path["external_id"], now=visit.now)


def detail(visit: Visit) -> HtmlPage:
    """GET /app/own-plan/{external_id}: the prices, with the calculator."""
    row, plan = _subscribed(visit)
    customer = customers.by_ids(visit.conn, [row.customer_id])[row.customer_id]
    own = {
        "subscription": row.external_id,
        "customer": customer.external_id,
        "is_own": plan.parent_id is not None,
    }
    if plan.parent_id is None:
        plan = fixed_units.with_own_units(plan, fixed_charges.own_units(visit.conn, row.id))
    thresholds = thresholds_on(row, plan)
    context = {
        **priced_plan(visit, plan, thresholds=thresholds),
        **scheduled_changes.shown(visit, plan),
        "own": own,
        "is_subscribed": True,
    }
    return HtmlPage(template="plan.html", context=context)


def cancel_change(visit: Visit) -> Done:
    """POST /app/cancel-own-price-change/{external_id}: for this subscription alone, in a plan of its own."""
    locks.change_catalogue(visit.conn, visit.here.id)
    row, plan = _subscribed(visit)
    change = scheduled_changes.named(visit, plan)
    own = own_plans.to_change(visit.conn, visit.here.id, row.external_id, now=visit.now)
    back = own_plan_url(row.external_id)
    return scheduled_changes.cancelled(visit, own, change, subject=row.external_id, back=back)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-own-plan/{external_id}."""
    row, plan = _subscribed(visit)
    context = {
        "plan": plan,
        "own": row.external_id,
        "fee": amount_text(plan.amount_cents, plan.amount_currency),
        "agreed": shown_amounts(plan),
        "currency": plan.amount_currency,
        "taxes": known_taxes(visit),
        "problems": price_grid.beside(visit.problems, FIELDS),
    }
    return HtmlPage(template="own_plan_edit.html", context=context)


def update(visit: Visit) -> Done:
    """POST /app/edit-own-plan/{external_id}."""
    row, plan = _subscribed(visit)
    form = visit.form
    overrides: dict[str, Any] = {
        "amount_cents": to_cents(form.get("amount") or "0", plan.amount_currency),
        "invoice_display_name": form.get("plan_invoice_name") or None,
        **read_taxes(form, "plan_tax"),
        **read_amounts(form, plan.amount_currency, plan.applicable_thresholds),
    }

    def edit(since: datetime | None) -> None:
        before = subscriptions.to_change(visit.conn, visit.here.id, row.external_id, status=row.status)
        fields = Fields({"plan_overrides": overrides})
        current = own_plans.current(visit.conn, before, since=since, now=visit.now)
        own_plan = read_overrides(
            visit.conn, fields, current, own_units=fixed_charges.own_units(visit.conn, row.id), now=visit.now
        )
        fields.check()
        subscriptions.change(visit.conn, before, columns={}, own_plan=own_plan, since=since, now=visit.now)

    back = own_plan_url(row.external_id)
    change = PriceChange(edit=edit, plan=plan, subject=row.external_id, title=FEE_CHANGE, back=back)
    to = f"{back}?said=saved"
    done = Done(action="changed plan of subscription", subject=row.external_id, to=to, details=overrides)
    return save_fee(visit, change, done, is_changed=overrides["amount_cents"] != plan.amount_cents)


def before_charge(visit: Visit) -> HtmlPage:
    """GET /app/edit-own-charge/{external_id}?charge=..."""
    row, plan = _subscribed(visit)
    page = edit_page(visit, plan, charge_by_code(plan, visit.query.get("charge")), is_fixed=True)
    return HtmlPage(template=page.template, context={**page.context, "own": row.external_id})


def update_charge(visit: Visit) -> Done:
    """POST /app/edit-own-charge/{external_id}?charge=..."""
    row, plan = _subscribed(visit)
    charge = charge_by_code(plan, visit.query.get("charge"))
    asked = read_charge(visit.form, charge.metric, currency=plan.amount_currency, charge=charge)
    body = {name: asked[name] for name in KEPT if name in asked}
    if visit.form.has("min_amount"):
        body |= read_least(visit.form, plan.amount_currency)

    def edit(since: datetime | None) -> None:
        own = own_plans.to_change(visit.conn, visit.here.id, row.external_id, since=since, now=visit.now)
        before = charge_by_code(own, charge.code)
        after = read_changed_charge(visit.conn, Fields(body), own, before, now=visit.now)
        change_charges(visit.conn, own, with_charge(own, after), since=since, cascades=False, now=visit.now)

    back = own_plan_url(row.external_id)
    title = "What these prices change"
    change = PriceChange(edit=edit, plan=plan, subject=row.external_id, title=title, back=back)
    to = f"{back}?said=saved"
    done = Done(action="changed prices of subscription", subject=row.external_id, to=to, details=body)
    return save_prices(visit, change, done)
