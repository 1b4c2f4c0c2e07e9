"""The fixed charges of a plan, one by one: added, changed, taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from permille.api.fixed_charge_input import read_added, read_fixed_charge
from permille.api.taxes import known_taxes as taxes_named
from permille.api.validation import Fields
from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Plan
from permille.core.rating.models import ChargeModel
from permille.store import add_ons, plans as store
from permille.usecases.catalogue import plans as catalogue
from permille.usecases.catalogue.fixed_units import by_code
from permille.web import price_grid
from permille.web.charge_form import MENU_MAX, known_taxes, read_taxes
from permille.web.plans import plan_of, plan_url
from permille.web.typed_number import plain_number
from permille.web.visit import Done, HtmlPage, Visit

TAX = "fixed_charge_tax"


def blank(visit: Visit) -> HtmlPage:
    """GET /app/add-fixed-charge/{code}."""
    return _form(visit, plan_of(visit), None)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-fixed-charge/{code}?charge=..."""
    plan = plan_of(visit)
    return _form(visit, plan, by_code(plan, visit.query.get("charge")))


def _form(visit: Visit, plan: Plan, known: FixedCharge | None) -> HtmlPage:
    found, _ = add_ons.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    context = {
        "plan": plan,
        "before": known,
        "add_ons": [(each.code, each.name) for each in found],
        "units": f"{known.units.normalize():f}" if known else "",
        "amount": known.properties.get("amount", "") if known else "",
        "is_standard": known is None or known.charge_model == ChargeModel.STANDARD,
        "followers": len(store.children(visit.conn, plan.id)),
        "taxes": known_taxes(visit),
        "chosen": [tax.code for tax in known.taxes] if known else [],
        "problems": price_grid.beside(visit.problems, {"properties": "amount"}),
    }
    return HtmlPage(template="fixed_charge_form.html", context=context)


def _body(visit: Visit) -> dict[str, Any]:
    form = visit.form
    body: dict[str, Any] = {
        "units": plain_number(form.get("units") or "0"),
        "invoice_display_name": form.get("invoice_display_name") or None,
        "apply_units_immediately": form.has("at_once"),
        **read_taxes(form, TAX),
    }
    if form.has("amount"):
        body["properties"] = {"amount": plain_number(form.get("amount") or "0")}
    return body


def add(visit: Visit) -> Done:
    """POST /app/add-fixed-charge/{code}."""
    form = visit.form
    body = {
        **_body(visit),
        "add_on_code": form.get("add_on_code"),
        "charge_model": ChargeModel.STANDARD,
        "pay_in_advance": form.has("pay_in_advance"),
        "prorated": form.has("prorated"),
    }
    plan = catalogue.to_change(visit.conn, visit.here.id, visit.path["code"], now=visit.now)
    charges = read_added(visit.conn, Fields(body), plan, now=visit.now)
    return _saved(visit, plan, charges, charges[-1], body, action="added fixed charge to plan")


def update(visit: Visit) -> Done:
    """POST /app/edit-fixed-charge/{code}?charge=..."""
    body = _body(visit)
    plan = catalogue.to_change(visit.conn, visit.here.id, visit.path["code"], now=visit.now)
    known = by_code(plan, visit.query.get("charge"))
    fields = Fields(body)
    taxes = taxes_named(visit.conn, visit.here.id, [fields])
    after = read_fixed_charge(fields, known, is_subscribed=True, taxes=taxes)
    fields.check()
    charges = [after if each.id == after.id else each for each in plan.fixed_charges]
    return _saved(visit, plan, charges, after, body, action="changed fixed charge of plan")


def _saved(
    visit: Visit,
    plan: Plan,
    charges: Sequence[FixedCharge],
    changed: FixedCharge,
    body: dict[str, Any],
    *,
    action: str,
) -> Done:
    catalogue.change_fixed_charges(
        visit.conn,
        plan,
        charges,
        cascades=visit.form.has("cascade"),
        units_at_once={changed.id} if body["apply_units_immediately"] else (),
        now=visit.now,
    )
    return Done(action=action, subject=plan.code, to=f"{plan_url(plan.code)}?said=saved", details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-fixed-charge/{code}?charge=..."""
    plan = catalogue.to_change(visit.conn, visit.here.id, visit.path["code"], now=visit.now)
    gone = by_code(plan, visit.query.get("charge"))
    left = [each for each in plan.fixed_charges if each.id != gone.id]
    catalogue.change_fixed_charges(visit.conn, plan, left, cascades=visit.form.has("cascade"), now=visit.now)
    to = f"{plan_url(plan.code)}?said=deleted"
    return Done(action="deleted fixed charge of plan", subject=plan.code, to=to, details={"code": gone.code})
