"""The charges of a plan, one by one: added, changed, taken away."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain, count

from permille.api import charges as api
from permille.api.plans import plan_of
from permille.core.contract.plan import Charge, Plan
from permille.core.errors import NotFound
from permille.store import plans as store
from permille.web.charge_form import (
    BILLED,
    billed_as,
    filled,
    known_metrics,
    metric_of,
    price_part,
    read_charge,
    typed,
)
from permille.web.plans import plan_url
from permille.web.price_effect import PriceChange, is_running, save_prices
from permille.web.price_sheet import MODELS
from permille.web.visit import Done, Page, Visit


def blank(visit: Visit) -> Page:
    """GET /app/add-charge/{code}?metric=..."""
    plan = plan_of(visit.call(path=visit.path))
    part = price_part(visit, known_metrics(visit), typed(visit), currency=plan.amount_currency)
    context = {"plan": plan, "charge": None, "own": None, "is_fixed": False, **part}
    context |= {"followers": _followers(visit, plan), "is_running": is_running(visit)}
    return Page(template="charge_form.html", context=context)


def add(visit: Visit) -> Done:
    """POST /app/add-charge/{code}."""
    metric = metric_of(visit, visit.form.get("billable_metric_code"))
    plan = plan_of(visit.call(path=visit.path))
    versions = [plan.charges, *(version.charges for version in plan.price_versions)]
    taken = {charge.code for charge in chain.from_iterable(versions)}
    body = {
        **read_charge(visit.form, metric, currency=plan.amount_currency),
        "code": _free_code(metric.code, taken),
        "cascade_updates": visit.form.has("cascade"),
    }
    change = PriceChange(
        edit=api.create_charge,
        path=visit.path,
        body=body,
        title="What the new charge changes",
        back=plan_url(plan.code),
    )
    to = f"{plan_url(plan.code)}?said=saved"
    done = Done(action="added charge to plan", subject=plan.code, to=to, details=body)
    return save_prices(visit, change, done)


def _free_code(wanted: str, taken: Collection[str]) -> str:
    """The code, with a number where it is taken."""
    numbered = (f"{wanted}_{number}" for number in count(2))
    return next(code for code in chain([wanted], numbered) if code not in taken)


def _followers(visit: Visit, plan: Plan) -> int:
    """How many subscriptions have prices of their own, which follow a change if that is wished."""
    return len(store.children(visit.conn, plan.id))


def charge_of(plan: Plan, code: str | None) -> Charge:
    """The plan's charge with the code. Raises NotFound."""
    found = next((each for each in plan.charges if each.code == code), None)
    if found is None:
        raise NotFound("charge")
    return found


def edit_page(visit: Visit, plan: Plan, charge: Charge, *, is_fixed: bool) -> Page:
    """A charge's terms to change; what is fixed can't be chosen anew."""
    form = typed(visit)
    if not form.has("charge_model"):
        form = filled(charge, plan.amount_currency)
    part = price_part(visit, [charge.metric], form, currency=plan.amount_currency)
    if is_fixed:
        unit = charge.applied_pricing_unit
        part |= {
            "has_options": False,
            "charge_models": [one for one in MODELS if one[0] == charge.charge_model],
            "pricing_units": [one for one in part["pricing_units"] if unit and one[0] == unit.unit.code],
        }
    context = {
        **part,
        "plan": plan,
        "charge": charge,
        "is_fixed": is_fixed,
        "followers": 0,
        "is_running": is_running(visit),
        "own": None,
        "fixed_terms": dict(BILLED)[billed_as(charge)].lower()
        + (", prorated by days" if charge.prorated else ""),
    }
    return Page(template="charge_form.html", context=context)


def before(visit: Visit) -> Page:
    """GET /app/edit-charge/{code}?charge=..."""
    plan = plan_of(visit.call(path=visit.path))
    charge = charge_of(plan, visit.query.get("charge"))
    page = edit_page(visit, plan, charge, is_fixed=store.is_subscribed(visit.conn, plan.id))
    return Page(template=page.template, context={**page.context, "followers": _followers(visit, plan)})


def update(visit: Visit) -> Done:
    """POST /app/edit-charge/{code}?charge=..."""
    plan = plan_of(visit.call(path=visit.path))
    charge = charge_of(plan, visit.query.get("charge"))
    body = read_charge(visit.form, charge.metric, currency=plan.amount_currency, charge=charge)
    body["cascade_updates"] = visit.form.has("cascade")
    path = {"code": plan.code, "charge_code": charge.code}
    change = PriceChange(
        edit=api.update_charge,
        path=path,
        body=body,
        title="What these prices change",
        back=plan_url(plan.code),
    )
    to = f"{plan_url(plan.code)}?said=saved"
    done = Done(action="changed prices of plan", subject=plan.code, to=to, details=body)
    return save_prices(visit, change, done)


def delete(visit: Visit) -> Done:
    """POST /app/delete-charge/{code}: the plan bills the metric no more."""
    code = visit.path["code"]
    charge = visit.form.get("charge")
    change = PriceChange(
        edit=api.delete_charge,
        path={"code": code, "charge_code": charge},
        body={},
        title=f"What it changes to take {charge} out",
        button="Take it out",
        back=plan_url(code),
    )
    to = f"{plan_url(code)}?said=deleted"
    done = Done(action="took charge from plan", subject=code, to=to, details={"charge": charge})
    return save_prices(visit, change, done)
