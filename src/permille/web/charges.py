"""The charges of a plan, one by one: added, changed, taken away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from typing import Any

from permille.api.charge_input import read_added_charge, read_changed_charge
from permille.api.validation import Fields
from permille.core.contract.plan import Charge, Plan
from permille.store import plans as store
from permille.usecases.catalogue import plans as catalogue
from permille.usecases.catalogue.plans import charge_by_code, with_charge, without_charge
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
from permille.web.plans import plan_of, plan_url
from permille.web.price_effect import PriceChange, is_running, save_prices
from permille.web.price_sheet import MODELS
from permille.web.visit import Done, HtmlPage, Visit


def blank(visit: Visit) -> HtmlPage:
    """GET /app/add-charge/{code}?metric=..."""
    plan = plan_of(visit)
    part = price_part(visit, known_metrics(visit), typed(visit), currency=plan.amount_currency)
    context = {"plan": plan, "charge": None, "own": None, "is_fixed": False, **part}
    context |= {"followers": _followers(visit, plan), "is_running": is_running(visit)}
    return HtmlPage(template="charge_form.html", context=context)


def add(visit: Visit) -> Done:
    """POST /app/add-charge/{code}."""
    metric = metric_of(visit, visit.form.get("billable_metric_code"))
    plan = plan_of(visit)
    versions = [plan.charges, *(version.charges for version in plan.price_versions)]
    taken = {charge.code for charge in chain.from_iterable(versions)}
    body = {
        **read_charge(visit.form, metric, currency=plan.amount_currency),
        "code": _free_code(metric.code, taken),
    }

    def edit(plan: Plan) -> Sequence[Charge]:
        return read_added_charge(visit.conn, Fields(body), plan, now=visit.now)

    title = "What the new charge changes"
    return _save(visit, edit, action="added charge to plan", title=title, details=_kept(visit, body))


def _kept(visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of an edit."""
    return {**body, "cascade_updates": visit.form.has("cascade")}


def _save(
    visit: Visit,
    edit: Callable[[Plan], Sequence[Charge]],
    *,
    action: str,
    title: str,
    details: Mapping[str, Any],
    said: str = "saved",
    **shown: str,
) -> Done:
    """Give the plan of the address the charges that `edit` makes of it."""
    code, cascades = visit.path["code"], visit.form.has("cascade")

    def save(since: datetime | None) -> None:
        plan = catalogue.to_change(visit.conn, visit.here.id, code, since=since, now=visit.now)
        catalogue.change_charges(visit.conn, plan, edit(plan), since=since, cascades=cascades, now=visit.now)

    back = plan_url(code)
    change = PriceChange(edit=save, plan=plan_of(visit), subject=code, title=title, back=back, **shown)
    done = Done(action=action, subject=code, to=f"{plan_url(code)}?said={said}", details=details)
    return save_prices(visit, change, done)


def _free_code(wanted: str, taken: Collection[str]) -> str:
    """The code, with a number where it is taken."""
    numbered = (f"{wanted}_{number}" for number in count(2))
    return next(code for code in chain([wanted], numbered) if code not in taken)


def _followers(visit: Visit, plan: Plan) -> int:
    """How many subscriptions have prices of their own, which follow a change if that is wished."""
    return len(store.children(visit.conn, plan.id))


def edit_page(visit: Visit, plan: Plan, charge: Charge, *, is_fixed: bool) -> HtmlPage:
    """A charge's terms to change; what is fixed can't be chosen again."""
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
    return HtmlPage(template="charge_form.html", context=context)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-charge/{code}?charge=..."""
    plan = plan_of(visit)
    charge = charge_by_code(plan, visit.query.get("charge"))
    page = edit_page(visit, plan, charge, is_fixed=store.is_subscribed(visit.conn, plan.id))
    return HtmlPage(template=page.template, context={**page.context, "followers": _followers(visit, plan)})


def update(visit: Visit) -> Done:
    """POST /app/edit-charge/{code}?charge=..."""
    plan = plan_of(visit)
    charge = charge_by_code(plan, visit.query.get("charge"))
    body = read_charge(visit.form, charge.metric, currency=plan.amount_currency, charge=charge)

    def edit(plan: Plan) -> Sequence[Charge]:
        before = charge_by_code(plan, charge.code)
        return with_charge(plan, read_changed_charge(visit.conn, Fields(body), plan, before, now=visit.now))

    title = "What these prices change"
    return _save(visit, edit, action="changed prices of plan", title=title, details=_kept(visit, body))


def delete(visit: Visit) -> Done:
    """POST /app/delete-charge/{code}: the plan bills the metric no more."""
    charge = visit.form.get("charge")

    def edit(plan: Plan) -> Sequence[Charge]:
        return without_charge(plan, charge_by_code(plan, charge))

    return _save(
        visit,
        edit,
        action="took charge from plan",
        title=f"What it changes to take {charge} out",
        details={"charge": charge},
        said="deleted",
        button="Take it out",
    )
