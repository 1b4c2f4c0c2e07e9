"""Plans: the list, one with its prices and a calculator, the forms, and the gallery of price lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from itertools import chain, count
from typing import Any

from permille.api import charges as charges_api, plans as api, price_lists as price_lists_api
from permille.billing import price_lists
from permille.core.billable_metric import BillableMetric
from permille.core.errors import NotFound
from permille.core.event import numeric_value
from permille.core.money import CURRENCIES, exact, subunits
from permille.core.period import Interval
from permille.core.plan import Charge, Plan
from permille.core.pricing import ChargeModel, price
from permille.core.pricing_unit import SUBUNITS, AppliedPricingUnit, Owed, PricingUnit, owed
from permille.store import billable_metrics, plans as store, pricing_units
from permille.web import price_grid, price_sheet
from permille.web.shown import currencies, in_path, shown_in_unit
from permille.web.visit import Done, Form, Page, Visit

METRICS_MAX = 200
CALCULATED = (
    ChargeModel.STANDARD,
    ChargeModel.PACKAGE,
    ChargeModel.GRADUATED,
    ChargeModel.GRADUATED_PERCENTAGE,
    ChargeModel.VOLUME,
    ChargeModel.PERCENTAGE,
)


def listing(visit: Visit) -> Page:
    """GET /app/plans."""
    found = api.list_plans(visit.call(query=visit.page_query()))
    return Page(template="plans.html", context={"plans": found["plans"], "meta": found["meta"]})


def plan_url(code: str) -> str:
    return f"/app/plans/{in_path(code)}"


def detail(visit: Visit) -> Page:
    """GET /app/plans/{code}: prices, with the units of the calculator in the query."""
    plan = api.plan_of(visit.call(path=visit.path))
    charges = [_calculated(visit, plan, charge) for charge in plan.charges]
    context = {
        "plan": plan,
        "charges": charges,
        "is_subscribed": store.is_subscribed(visit.conn, plan.id),
        "calculated": any(row["cents"] is not None for charge in charges for row in charge["rows"]),
        "total": sum(row["cents"] or 0 for charge in charges for row in charge["rows"]),
    }
    return Page(template="plan.html", context=context)


def _calculated(visit: Visit, plan: Plan, charge: Charge) -> dict[str, Any]:
    """A charge's prices as rows, each with what the units that were typed would cost."""
    keys = list(dict.fromkeys(key for each in charge.filters for key in each.values))
    priced = [(each.values, each.invoice_display_name, each.properties) for each in charge.filters]
    rows = []
    for number, (values, name, properties) in enumerate([*priced, ({}, None, charge.properties)]):
        field = f"{charge.code}:{number}"
        text = visit.query.get(field, "")
        units = numeric_value(text.replace(",", "").replace(" ", ""))
        due = _owed(plan, charge, properties, units)
        rows.append(
            {
                "cells": [", ".join(values.get(key, ())) for key in keys],
                "name": name,
                "properties": properties,
                "field": field,
                "text": text,
                "is_junk": bool(text) and (units is None or units < 0),
                "cents": due.money.amount_cents if due else None,
                "in_unit": shown_in_unit(due.in_unit) if due else None,
            }
        )
    fits = price_grid.fits(charge)
    return {
        "charge": charge,
        "applied": charge.applied_pricing_unit,
        "short_name": charge.applied_pricing_unit.unit.short_name if charge.applied_pricing_unit else None,
        "keys": keys,
        "rows": rows,
        "fits": fits or price_sheet.fits(charge),
        "grid": _priced_grid(charge, rows) if fits and charge.filters else None,
        "can_calculate": charge.charge_model in CALCULATED,
    }


def _priced_grid(charge: Charge, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The rows placed by two dimensions; None where the metric has fewer."""
    row_key, column_key = price_grid.keys_of(charge.metric)
    if not column_key:
        return None
    placed = [
        (name, [None if number is None else rows[number] for number in numbers])
        for name, numbers in price_grid.cells_of(charge)
    ]
    return {
        "row_key": row_key,
        "columns": charge.metric.filters[column_key],
        "rows": placed,
        "others": rows[-1],
    }


def _owed(plan: Plan, charge: Charge, properties: Any, units: Decimal | None) -> Owed | None:
    """What the units cost by themselves, rounded as a fee is."""
    if units is None or units < 0 or charge.charge_model not in CALCULATED:
        return None
    found = price(
        ChargeModel(charge.charge_model),
        units=units,
        properties=properties,
        currency=plan.amount_currency,
        events_count=1,
        event_values=(units,),
        running_totals=(units,),
    )
    per_unit = subunits(plan.amount_currency)
    with exact():
        return owed(found.amount, found.unit_amount, per_unit=per_unit, applied=charge.applied_pricing_unit)


def _metrics(visit: Visit) -> list[BillableMetric]:
    return billable_metrics.listing(visit.conn, visit.here.id, limit=METRICS_MAX, offset=0)[0]


def _metric(visit: Visit, code: str) -> BillableMetric:
    found = billable_metrics.by_code(visit.conn, visit.here.id, code)
    if found is None:
        raise NotFound("billable_metrics")
    return found


def _typed(visit: Visit) -> Form:
    """What was typed: into the form that was refused, or before another metric was chosen.

    Prices stay with the metric that they were typed for.
    """
    if visit.form.pairs:
        return visit.form
    query = visit.query
    same = query.get("metric") == query.get("billable_metric_code")
    pairs = [
        (name, text)
        for name, text in query.multi_items()
        if name != "billable_metric_code" and (same or not name.startswith("price:"))
    ]
    return Form(pairs=tuple(pairs))


def _chosen(visit: Visit, metrics: Sequence[BillableMetric], form: Form) -> BillableMetric | None:
    """The metric whose prices are shown, else the one that was chosen, else the first; None when none shall be."""
    code = form.get("billable_metric_code") or form.get("metric")
    if not code and form.has("metric"):
        return None
    found = billable_metrics.by_code(visit.conn, visit.here.id, code) if code else None
    return found or next(iter(metrics), None)


def _grid(
    visit: Visit,
    metrics: Sequence[BillableMetric],
    form: Form,
    *,
    currency: str,
    charge: Charge | None = None,
) -> dict[str, Any]:
    """The part of a form that prices a metric: a grid of prices, or the terms of another model."""
    metric = _chosen(visit, metrics, form)
    listed = metrics if metric is None or metric in metrics else [metric, *metrics]
    is_grid = _is_grid(form, charge)
    units, _ = pricing_units.listing(visit.conn, visit.here.id, limit=METRICS_MAX, offset=0)
    applied = _typed_unit(form, units)
    return {
        "metrics": listed,
        "metric": metric,
        "may_be_none": False,
        "grid": price_grid.grid_of(metric, form) if metric and is_grid else None,
        "sheet": (
            price_sheet.sheet_of(metric, form, currency=currency, applied=applied)
            if metric and not is_grid
            else None
        ),
        "pricing_units": _unit_options(units, currency),
        "currency": currency,
        "charge_models": price_sheet.MODELS,
        "has_options": True,
        "form": form,
        "problems": price_grid.beside(visit.problems),
    }


def _unit_options(units: Sequence[PricingUnit], currency: str) -> list[tuple[str, str]]:
    """For a menu; without units there is nothing to choose."""
    named = [(unit.code, f"{unit.name} ({unit.short_name})") for unit in units]
    return [("", f"Money, {currency}"), *named] if named else []


def _typed_unit(form: Form, units: Sequence[PricingUnit]) -> AppliedPricingUnit | None:
    """The unit that was chosen, None also while its rate is none."""
    unit = next((each for each in units if each.code == form.get("pricing_unit")), None)
    rate = numeric_value(form.get("conversion_rate"))
    if unit is None or rate is None or rate <= 0:
        return None
    return AppliedPricingUnit(unit=unit, conversion_rate=rate)


def _is_grid(form: Form, charge: Charge | None) -> bool:
    """Whether one price a cell is all there is to type."""
    model = form.get("charge_model")
    if model not in dict(price_sheet.MODELS):
        return True
    return model in price_grid.MODELS and (
        charge is None or price_grid.fits(charge) or not form.has("others:amount")
    )


def _read(
    form: Form, metric: BillableMetric, *, currency: str, charge: Charge | None = None
) -> dict[str, Any]:
    read = price_grid.read if _is_grid(form, charge) else price_sheet.read
    return {**read(form, metric, charge), **_unit(form), **_options(form, currency)}


def _unit(form: Form) -> dict[str, Any]:
    """What the prices are in, where the form asks."""
    if not form.has("pricing_unit"):
        return {}
    code = form.get("pricing_unit")
    terms = {"code": code, "conversion_rate": form.get("conversion_rate")}
    return {"applied_pricing_unit": terms if code else None}


def _options(form: Form, currency: str) -> dict[str, Any]:
    """The terms beside the prices, where the form has them."""
    if not form.has("options"):
        return {}
    return {
        "pay_in_advance": form.has("charge_in_advance"),
        "prorated": form.has("prorated"),
        "min_amount_cents": (
            _to_smallest(form.get("min_amount") or "0", SUBUNITS)
            if form.get("pricing_unit")
            else _to_cents(form.get("min_amount") or "0", currency)
        ),
    }


def _with_options(form: Form, charge: Charge, currency: str) -> Form:
    """The form with the terms that a charge has beside its prices."""
    per_unit = SUBUNITS if charge.applied_pricing_unit else subunits(currency)
    with exact():
        least = Decimal(charge.min_amount_cents) / per_unit
    pairs = [("min_amount", f"{least.normalize():f}")]
    flags = {"charge_in_advance": charge.pay_in_advance, "prorated": charge.prorated}
    pairs += [(name, "on") for name, is_set in flags.items() if is_set]
    if (applied := charge.applied_pricing_unit) is not None:
        rate = f"{applied.conversion_rate.normalize():f}"
        pairs += [("pricing_unit", applied.unit.code), ("conversion_rate", rate)]
    return Form(pairs=(*form.pairs, *pairs))


def _typed_currency(visit: Visit) -> str:
    typed = _typed(visit).get("amount_currency")
    return typed if typed in CURRENCIES else "USD"


def blank(visit: Visit) -> Page:
    """GET /app/new-plan?metric=code."""
    context = {
        **_grid(visit, _metrics(visit), _typed(visit), currency=_typed_currency(visit)),
        "may_be_none": True,
        "intervals": [(each.value, each.value) for each in Interval],
        "currencies": [(one, one) for one in currencies()],
    }
    return Page(template="plan_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/new-plan: the plan with one charge, or without."""
    form = visit.form
    body: dict[str, Any] = {
        "name": form.get("name"),
        "code": form.get("code"),
        "description": form.get("description") or None,
        "interval": form.get("interval"),
        "amount_currency": form.get("amount_currency"),
        "amount_cents": _to_cents(form.get("amount") or "0", form.get("amount_currency")),
        "pay_in_advance": form.has("pay_in_advance"),
        "charges": [],
    }
    if code := form.get("billable_metric_code"):
        body["charges"] = [_read(form, _metric(visit, code), currency=form.get("amount_currency"))]
    made = api.create_plan(visit.call(body={"plan": body}))["plan"]
    to = f"{plan_url(made['code'])}?said=created"
    return Done(action="created plan", subject=made["code"], to=to, details=body)


def _to_cents(text: str, currency: str) -> Any:
    """An amount as the API takes it; what is none is passed on, for the API to refuse."""
    return _to_smallest(text, subunits(currency)) if currency in CURRENCIES else text


def _to_smallest(text: str, per_unit: int) -> Any:
    """An amount in its smallest units, of which so many make one; likewise."""
    value = numeric_value(text.replace(",", ""))
    if value is None:
        return text
    with exact():
        cents = value * per_unit
    return int(cents) if cents == int(cents) else text


def before(visit: Visit) -> Page:
    """GET /app/edit-plan/{code}."""
    plan = api.plan_of(visit.call(path=visit.path))
    with exact():
        amount = Decimal(plan.amount_cents) / subunits(plan.amount_currency)
    context = {
        "plan": plan,
        "fee": f"{amount:.{CURRENCIES[plan.amount_currency]}f}",
        "problems": price_grid.beside(visit.problems, {"amount_cents": "amount"}),
    }
    return Page(template="plan_edit.html", context=context)


def update(visit: Visit) -> Done:
    """POST /app/edit-plan/{code}."""
    plan = api.plan_of(visit.call(path=visit.path))
    form = visit.form
    body = {
        "name": form.get("name"),
        "invoice_display_name": form.get("invoice_display_name") or None,
        "description": form.get("description") or None,
        "amount_cents": _to_cents(form.get("amount") or "0", plan.amount_currency),
    }
    api.update_plan(visit.call(path=visit.path, body={"plan": body}))
    to = f"{plan_url(plan.code)}?said=saved"
    return Done(action="changed plan", subject=plan.code, to=to, details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-plan/{code}."""
    api.delete_plan(visit.call(path=visit.path))
    return Done(action="deleted plan", subject=visit.path["code"], to="/app/plans?said=deleted")


def blank_charge(visit: Visit) -> Page:
    """GET /app/add-charge/{code}?metric=..."""
    plan = api.plan_of(visit.call(path=visit.path))
    grid = _grid(visit, _metrics(visit), _typed(visit), currency=plan.amount_currency)
    context = {"plan": plan, "charge": None, **grid}
    return Page(template="charge_form.html", context=context)


def add_charge(visit: Visit) -> Done:
    """POST /app/add-charge/{code}."""
    metric = _metric(visit, visit.form.get("billable_metric_code"))
    plan = api.plan_of(visit.call(path=visit.path))
    taken = {charge.code for charge in plan.charges}
    body = {
        **_read(visit.form, metric, currency=plan.amount_currency),
        "code": _free_code(metric.code, taken),
    }
    charges_api.create_charge(visit.call(path=visit.path, body={"charge": body}))
    code = visit.path["code"]
    return Done(action="added charge to plan", subject=code, to=f"{plan_url(code)}?said=saved", details=body)


def _free_code(wanted: str, taken: Collection[str]) -> str:
    """The code, with a number where it is taken."""
    numbered = (f"{wanted}_{number}" for number in count(2))
    return next(code for code in chain([wanted], numbered) if code not in taken)


def _charge(visit: Visit) -> tuple[Plan, Charge]:
    """The plan and its charge that the address names. Raises NotFound."""
    plan = api.plan_of(visit.call(path={"code": visit.path["code"]}))
    charge = next((each for each in plan.charges if each.code == visit.query.get("charge")), None)
    if charge is None or not price_sheet.fits(charge):
        raise NotFound("charge")
    return plan, charge


def before_charge(visit: Visit) -> Page:
    """GET /app/edit-charge/{code}?charge=..."""
    plan, charge = _charge(visit)
    filled = price_grid.filled if price_grid.fits(charge) else price_sheet.filled
    typed = _typed(visit)
    form = typed
    if not typed.has("charge_model"):
        form = _with_options(filled(charge), charge, plan.amount_currency)
    context = {
        "plan": plan,
        **_grid(visit, [charge.metric], form, currency=plan.amount_currency, charge=charge),
        "charge": charge,
    }
    if store.is_subscribed(visit.conn, plan.id):
        context["has_options"] = False
        context["charge_models"] = [one for one in price_sheet.MODELS if one[0] == charge.charge_model]
        unit = charge.applied_pricing_unit
        context["pricing_units"] = [
            one for one in context["pricing_units"] if unit and one[0] == unit.unit.code
        ]
    return Page(template="charge_form.html", context=context)


def update_charge(visit: Visit) -> Done:
    """POST /app/edit-charge/{code}?charge=..."""
    plan, charge = _charge(visit)
    body = _read(visit.form, charge.metric, currency=plan.amount_currency, charge=charge)
    path = {"code": plan.code, "charge_code": charge.code}
    charges_api.update_charge(visit.call(path=path, body={"charge": body}))
    to = f"{plan_url(plan.code)}?said=saved"
    return Done(action="changed prices of plan", subject=plan.code, to=to, details=body)


def gallery(_visit: Visit) -> Page:
    """GET /app/templates: the price lists that come with Permille."""
    return Page(template="gallery.html", context={"price_lists": price_lists.list_price_lists()})


def apply_price_list(visit: Visit) -> Done:
    """POST /app/templates: a price list's metrics and plan are made."""
    slug = visit.form.get("slug")
    path = {"organization_id": str(visit.here.id)}
    price_lists_api.apply_price_list(visit.conn, {"price_list": {"slug": slug}}, path)
    return Done(action="applied price list", subject=slug, to=f"{plan_url(slug)}?said=applied")
