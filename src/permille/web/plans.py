"""Plans: the list, one with its prices and a calculator, the forms, and the gallery of price lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from permille.api.plan_input import read_plan
from permille.api.price_lists import read_price_list
from permille.api.validation import Fields
from permille.core.contract.plan import Charge, Plan, leaves_unpriced
from permille.core.contract.price_versions import in_force
from permille.core.contract.threshold import UsageThreshold
from permille.core.errors import Invalid
from permille.core.llm.current_models import providers
from permille.core.money import CURRENCIES, ZERO
from permille.core.period import Interval
from permille.core.rating.models.group_keys import pricing_keys
from permille.core.rating.pricing_unit import Owed
from permille.core.rating.unlisted import UnlistedValues
from permille.store import plans as store
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.catalogue import plans as catalogue, price_lists
from permille.web import calculator, price_grid, scheduled_changes
from permille.web.agreed_amounts import NO_AMOUNTS, read_amounts, shown_amounts
from permille.web.charge_form import (
    BILLED,
    UNLISTED,
    amount_text,
    billed_as,
    known_metrics,
    known_taxes,
    metric_of,
    price_part,
    read_charge,
    read_taxes,
    to_cents,
    typed,
)
from permille.web.price_effect import PriceChange, save_fee
from permille.web.shown import currencies, in_path, listed_text, shown_in_unit
from permille.web.typed_number import number_or_none, plain_number
from permille.web.visit import Done, Form, HtmlPage, Visit

INTERVALS = [(each.value, each.value) for each in Interval]
FEE_CHANGE = "What this subscription fee changes"
FIELDS = {
    "amount_cents": "amount",
    "invoice_display_name": "plan_invoice_name",
    "usage_thresholds": "thresholds",
}


def listing(visit: Visit) -> HtmlPage:
    """GET /app/plans."""
    page = visit.page()
    rows, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    context = {"plans": [in_force(row, visit.now) for row in rows], "meta": page.meta(total)}
    return HtmlPage(template="plans.html", context=context)


def plan_of(visit: Visit) -> Plan:
    """The plan that the address names. Raises NotFound."""
    return catalogue.by_code(visit.conn, visit.here.id, visit.path["code"], now=visit.now)


def plan_url(code: str) -> str:
    return f"/app/plans/{in_path(code)}"


def detail(visit: Visit) -> HtmlPage:
    """GET /app/plans/{code}: prices, with the units of the calculator in the query."""
    plan = plan_of(visit)
    context = {
        **priced_plan(visit, plan),
        **scheduled_changes.shown(visit, plan),
        "own": None,
        "is_subscribed": store.is_subscribed(visit.conn, plan.id),
    }
    return HtmlPage(template="plan.html", context=context)


def priced_plan(visit: Visit, plan: Plan, *, thresholds: Sequence[UsageThreshold] = ()) -> dict[str, Any]:
    """A plan's charges with their prices, and what the units that were typed would cost.

    `thresholds` are a subscription's own.
    """
    charges = [_calculated(visit, plan, charge) for charge in plan.charges]
    return {
        "plan": plan,
        "thresholds": thresholds or plan.applicable_thresholds,
        "charges": charges,
        "calculated": any(row["cents"] is not None for charge in charges for row in charge["rows"]),
        "total": sum(row["cents"] or 0 for charge in charges for row in charge["rows"]),
    }


def _unlisted(charge: Charge) -> str:
    """What usage costs that no price lists, where that is not just what everything else costs."""
    if not leaves_unpriced(charge):
        return ""
    is_held = charge.unlisted_values == UnlistedValues.HELD
    return (
        "Unlisted values are held until they have a price." if is_held else "Unlisted values have no price."
    )


def _calculated(visit: Visit, plan: Plan, charge: Charge) -> dict[str, Any]:
    """A charge's prices as rows, each with what the units that were typed would cost."""
    keys = list(dict.fromkeys(key for each in charge.filters for key in each.values))
    priced = [(each.values, each.invoice_display_name, each.properties) for each in charge.filters]
    rows = []
    for number, (values, name, properties) in enumerate([*priced, ({}, None, charge.properties)]):
        field = f"{charge.code}:{number}"
        text, events_text = visit.query.get(field, ""), visit.query.get(f"{field}:events", "")
        units, events = number_or_none(text), calculator.typed_events(events_text)
        is_junk = units is None or units < 0 or events is None
        due = None if is_junk else _owed(plan, charge, properties, units or ZERO, events or 1)
        rows.append(
            {
                "cells": [listed_text(key, values.get(key, ())) for key in keys],
                "name": name,
                "properties": properties,
                "field": field,
                "text": text,
                "events_text": events_text,
                "is_junk": bool(text) and is_junk,
                "cents": due.money.amount_cents if due else None,
                "in_unit": shown_in_unit(due.in_unit) if due else None,
            }
        )
    grid = _priced_grid(charge, rows) if price_grid.fits(charge) and charge.filters else None
    applied = charge.applied_pricing_unit
    return {
        "charge": charge,
        "unlisted": _unlisted(charge),
        "applied": applied,
        "short_name": applied.unit.short_name if applied else None,
        "keys": keys,
        "rows": rows,
        "grid": grid,
        "can_calculate": charge.charge_model in calculator.MODELS,
        "billed_as": dict(BILLED)[billed_as(charge)],
        "groups": pricing_keys(charge.properties),
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


def _owed(plan: Plan, charge: Charge, properties: Any, units: Decimal, events: int) -> Owed | None:
    """What the units cost by themselves, rounded as a fee is."""
    model, currency = charge.charge_model, plan.amount_currency
    if model not in calculator.MODELS:
        return None
    found = calculator.priced(model, properties, units=units, events=events, currency=currency)
    return calculator.due(found, currency=currency, applied=charge.applied_pricing_unit)


def _typed_currency(visit: Visit) -> str:
    found = typed(visit).get("amount_currency")
    return found if found in CURRENCIES else "USD"


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-plan?metric=code."""
    context = {
        **price_part(visit, known_metrics(visit), typed(visit), currency=_typed_currency(visit)),
        "may_be_none": True,
        "agreed": NO_AMOUNTS,
        "intervals": INTERVALS,
        "currencies": [(one, one) for one in currencies()],
    }
    return HtmlPage(template="plan_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/new-plan: the plan with one charge, or without."""
    form = visit.form
    currency = form.get("amount_currency")
    body: dict[str, Any] = {
        **_always(form, currency),
        **_structure(form),
        **read_amounts(form, currency),
        "code": form.get("code"),
        "amount_currency": currency,
        "charges": [],
    }
    if code := form.get("billable_metric_code"):
        body["charges"] = [read_charge(form, metric_of(visit, code), currency=currency)]
    blank = catalogue.blank(visit.conn, visit.here.id, now=visit.now)
    fields = Fields(body)
    made = read_plan(visit.conn, fields, blank, now=visit.now)
    fields.check()
    catalogue.add(visit.conn, made)
    to = f"{plan_url(made.code)}?said=created"
    return Done(action="created plan", subject=made.code, to=to, details=body)


def _always(form: Form, currency: str) -> dict[str, Any]:
    """What may change at any time."""
    return {
        "name": form.get("name"),
        "invoice_display_name": form.get("plan_invoice_name") or None,
        "description": form.get("description") or None,
        "amount_cents": to_cents(form.get("amount") or "0", currency),
        **read_taxes(form, "plan_tax"),
    }


def _structure(form: Form) -> dict[str, Any]:
    """What is fixed as soon as somebody has subscribed."""
    return {
        "interval": form.get("interval"),
        "pay_in_advance": form.has("pay_in_advance"),
        "trial_period": plain_number(form.get("trial_period")) or None,
        "bill_charges_monthly": form.has("bill_charges_monthly"),
        "bill_fixed_charges_monthly": form.has("bill_fixed_charges_monthly"),
    }


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-plan/{code}."""
    plan = plan_of(visit)
    context = {
        "plan": plan,
        "fee": amount_text(plan.amount_cents, plan.amount_currency),
        "agreed": shown_amounts(plan),
        "currency": plan.amount_currency,
        "trial": "" if plan.trial_period is None else f"{plan.trial_period.normalize():f}",
        "intervals": INTERVALS,
        "taxes": known_taxes(visit),
        "is_subscribed": store.is_subscribed(visit.conn, plan.id),
        "followers": len(store.children(visit.conn, plan.id)),
        "problems": price_grid.beside(visit.problems, FIELDS),
    }
    return HtmlPage(template="plan_edit.html", context=context)


def update(visit: Visit) -> Done:
    """POST /app/edit-plan/{code}."""
    plan = plan_of(visit)
    form = visit.form
    body = {**_always(form, plan.amount_currency), **(_structure(form) if form.has("interval") else {})}
    body |= read_amounts(form, plan.amount_currency, plan.usage_thresholds)
    body["cascade_updates"] = form.has("cascade")

    def edit(since: datetime | None) -> None:
        before = catalogue.to_change(visit.conn, visit.here.id, plan.code, since=since, now=visit.now)
        fields = Fields(body)
        after = read_plan(visit.conn, fields, before, now=visit.now)
        fields.check()
        cascades = body["cascade_updates"]
        catalogue.change(visit.conn, before, after, since=since, cascades=cascades, now=visit.now)

    back = plan_url(plan.code)
    change = PriceChange(edit=edit, plan=plan, subject=plan.code, title=FEE_CHANGE, back=back)
    done = Done(action="changed plan", subject=plan.code, to=f"{back}?said=saved", details=body)
    return save_fee(visit, change, done, is_changed=body["amount_cents"] != plan.amount_cents)


def cancel_change(visit: Visit) -> Done:
    """POST /app/cancel-price-change/{code}."""
    code = visit.path["code"]
    plan = catalogue.to_change(visit.conn, visit.here.id, code, now=visit.now)
    change = scheduled_changes.named(visit, plan)
    return scheduled_changes.cancelled(visit, plan, change, subject=code, back=plan_url(code))


def delete(visit: Visit) -> Done:
    """POST /app/delete-plan/{code}."""
    code = visit.path["code"]
    plan = catalogue.to_change(visit.conn, visit.here.id, code, now=visit.now)
    catalogue.remove(visit.conn, plan, now=visit.now)
    return Done(action="deleted plan", subject=code, to="/app/plans?said=deleted")


def gallery(visit: Visit) -> HtmlPage:
    """GET /app/templates: the price lists that come with Permille, and whose prices of today there are."""
    context = {
        "price_lists": price_lists.list_price_lists(),
        "unlisted_choices": UNLISTED,
        "providers": providers(catalogue_of(visit.conn, visit.here.id), on=visit.now.date()),
    }
    return HtmlPage(template="gallery.html", context=context)


def apply_price_list(visit: Visit) -> Done:
    """POST /app/templates: a price list's metrics and plan are made."""
    slug = visit.form.get("slug")
    asked = {"slug": slug, "unlisted_values": visit.form.get("unlisted_values")}
    has_filters = any(
        charge.filters
        for each in price_lists.list_price_lists()
        for charge in each.plan.charges
        if each.slug == slug
    )
    if has_filters and not asked["unlisted_values"]:
        raise Invalid({"unlisted_values": ["unlisted_values_not_chosen"]})
    wanted, unlisted_values = read_price_list(Fields(asked))
    price_lists.apply(
        visit.conn, organization=visit.here, slug=wanted, now=visit.now, unlisted_values=unlisted_values
    )
    return Done(action="applied price list", subject=slug, to=f"{plan_url(slug)}?said=applied")
