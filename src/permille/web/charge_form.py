"""The part of a form that prices a metric: its terms as typed, and what the API makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from permille.api.validation import FinerAmount
from permille.core.contract.plan import Charge
from permille.core.errors import Invalid, NotFound
from permille.core.metering.billable_metric import BillableMetric
from permille.core.money import CURRENCIES, exact, subunits
from permille.core.rating.pricing_unit import PLACES as UNIT_PLACES, SUBUNITS, AppliedPricingUnit, PricingUnit
from permille.core.rating.rounding import Rounding
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import replace
from permille.core.tax import Tax
from permille.store import billable_metrics, pricing_units, taxes
from permille.web import price_grid, price_sheet
from permille.web.typed_number import number_or_none, plain_number
from permille.web.visit import Form, Visit

MENU_MAX = 200
IN_ARREARS, INVOICED, ALONE, GATHERED = "", "invoice", "fee", "gathered"
BILLED = (
    (IN_ARREARS, "At the end of the period"),
    (INVOICED, "At once: each event makes an invoice"),
    (ALONE, "At once, without an invoice: each event makes a fee"),
    (GATHERED, "At once, and fees that are paid come on the period's invoice"),
)


UNLISTED = (
    (
        UnlistedValues.HELD,
        "Held",
        "their usage has no price yet. The invoice stays a draft until a price lists them, or you choose otherwise here.",
    ),
    (
        UnlistedValues.DEFAULT,
        "Priced by the default",
        "they cost what everything else costs, even if that is 0.",
    ),
    (
        UnlistedValues.FREE,
        "Free",
        "Lago’s way: they also cost what everything else costs. Where that is 0, their usage is given away and reported.",
    ),
)


ROUNDINGS = (
    (Rounding.PER_FEE, "Each line by itself, as in Lago"),
    (Rounding.PER_CHARGE, "All lines of the charge together"),
)


def known_metrics(visit: Visit) -> list[BillableMetric]:
    """For a menu."""
    return billable_metrics.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)[0]


def known_taxes(visit: Visit) -> list[Tax]:
    """For a list of boxes to tick."""
    return taxes.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)[0]


def metric_of(visit: Visit, code: str) -> BillableMetric:
    """The metric with the code. Raises NotFound."""
    found = billable_metrics.by_code(visit.conn, visit.here.id, code)
    if found is None:
        raise NotFound("billable_metrics")
    return found


def typed(visit: Visit) -> Form:
    """What was typed: into the form that was refused, or before another metric was chosen.

    Prices and filters stay with the metric that they were typed for.
    """
    if visit.form.pairs:
        return visit.form
    query = visit.query
    same = query.get("metric") == query.get("billable_metric_code")
    pairs = [
        (name, text)
        for name, text in query.multi_items()
        if name != "billable_metric_code" and (same or ":" not in name or name.startswith(price_sheet.OTHERS))
    ]
    return Form(pairs=tuple(pairs))


def _chosen(visit: Visit, metrics: Sequence[BillableMetric], form: Form) -> BillableMetric | None:
    """The metric whose prices are shown, else the one that was chosen, else the first; None when none shall be."""
    code = form.get("billable_metric_code") or form.get("metric")
    if not code and form.has("metric"):
        return None
    found = billable_metrics.by_code(visit.conn, visit.here.id, code) if code else None
    return found or next(iter(metrics), None)


def price_part(
    visit: Visit, metrics: Sequence[BillableMetric], form: Form, *, currency: str
) -> dict[str, Any]:
    """What the templates draw: a grid of prices, or the terms of another model."""
    metric = _chosen(visit, metrics, form)
    added = None
    if metric and form.has(price_sheet.ADD):
        form, added = _with_one_more(form, metric)
    is_grid = metric is None or _is_grid(form, metric)
    units, _ = pricing_units.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    applied = _typed_unit(form, units)
    return {
        "metrics": metrics if metric is None or metric in metrics else [metric, *metrics],
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
        "billed": BILLED,
        "taxes": known_taxes(visit),
        "has_options": True,
        "unlisted_choices": UNLISTED,
        "roundings": ROUNDINGS,
        "form": form,
        "problems": price_grid.beside(visit.problems),
        "not_added": {"added": [added]} if added else {},
    }


def _with_one_more(form: Form, metric: BillableMetric) -> tuple[Form, str | None]:
    """The form with one more filter, which no grid has a place for."""
    sheet = price_sheet.from_grid(form, metric) if _is_grid(form, metric) else form
    more, wrong = price_sheet.with_added(sheet, metric)
    return (form, wrong) if wrong else (more, None)


def _unit_options(units: Sequence[PricingUnit], currency: str) -> list[tuple[str, str]]:
    """For a menu; without units there is nothing to choose."""
    named = [(unit.code, f"{unit.name} ({unit.short_name})") for unit in units]
    return [("", f"Money, {currency}"), *named] if named else []


def _typed_unit(form: Form, units: Sequence[PricingUnit]) -> AppliedPricingUnit | None:
    """The unit that was chosen, None also while its rate is none."""
    unit = next((each for each in units if each.code == form.get("pricing_unit")), None)
    rate = number_or_none(form.get("conversion_rate"))
    if unit is None or rate is None or rate <= 0:
        return None
    return AppliedPricingUnit(unit=unit, conversion_rate=rate)


def _is_grid(form: Form, metric: BillableMetric) -> bool:
    """Whether one price a cell is all there is to type."""
    model = form.get("charge_model")
    if model not in dict(price_sheet.MODELS):
        return True
    is_sheet = form.has(f"{price_sheet.OTHERS}amount")
    return model in price_grid.MODELS and not is_sheet and price_sheet.is_of_places(form, metric)


def read_charge(
    form: Form, metric: BillableMetric, *, currency: str, charge: Charge | None = None
) -> dict[str, Any]:
    """The charge that the form asks for, as the API takes it."""
    read = price_grid.read if _is_grid(form, metric) else price_sheet.read
    return {
        **read(form, metric, charge),
        **_unlisted(form, metric, charge),
        **_unit(form),
        **form.filled("rounding", "accepts_target_wallet"),
        **_options(form, currency),
        **read_taxes(form),
    }


def _unlisted(form: Form, metric: BillableMetric, charge: Charge | None) -> dict[str, Any]:
    """What is done with unlisted values; a new charge says it. Raises Invalid."""
    choice = form.get("unlisted_values")
    if metric.filters and charge is None and not choice:
        raise Invalid({"unlisted_values": ["unlisted_values_not_chosen"]})
    return {"unlisted_values": choice} if choice else {}


def read_taxes(form: Form, field: str = "charge_tax") -> dict[str, Any]:
    """The boxes that are ticked, where the form has them."""
    return {"tax_codes": form.all(field)} if form.has(f"{field}es") else {}


def _unit(form: Form) -> dict[str, Any]:
    """What the prices are in, where the form asks."""
    if not form.has("pricing_unit"):
        return {}
    code = form.get("pricing_unit")
    terms = {"code": code, "conversion_rate": plain_number(form.get("conversion_rate"))}
    return {"applied_pricing_unit": terms if code else None}


def _options(form: Form, currency: str) -> dict[str, Any]:
    """The terms beside the prices, where the form has them."""
    if not form.has("options"):
        return {}
    billed = form.get("billed")
    return {
        "pay_in_advance": billed != IN_ARREARS,
        "invoiceable": billed not in (ALONE, GATHERED),
        "regroup_paid_fees": "invoice" if billed == GATHERED else None,
        "prorated": form.has("prorated"),
        **read_least(form, currency),
    }


def read_least(form: Form, currency: str) -> dict[str, Any]:
    """The minimum charge, in the currency's smallest units or in those of the pricing unit."""
    text = form.get("min_amount") or "0"
    unit = form.get("pricing_unit")
    return {"min_amount_cents": _to_smallest(text, unit, UNIT_PLACES) if unit else to_cents(text, currency)}


def filled(charge: Charge, currency: str) -> Form:
    """The form with the terms of a charge."""
    form = price_grid.filled(charge) if price_grid.fits(charge) else price_sheet.filled(charge)
    per_unit = SUBUNITS if charge.applied_pricing_unit else subunits(currency)
    with exact():
        least = Decimal(charge.min_amount_cents) / per_unit
    pairs = [("min_amount", f"{least.normalize():f}"), ("billed", billed_as(charge))]
    pairs += [("unlisted_values", charge.unlisted_values), ("rounding", charge.rounding)]
    pairs += [("accepts_target_wallet", "true" if charge.accepts_target_wallet else "false")]
    pairs += [("prorated", "on")] if charge.prorated else []
    pairs += [("charge_tax", tax.code) for tax in charge.taxes]
    if (applied := charge.applied_pricing_unit) is not None:
        rate = f"{applied.conversion_rate.normalize():f}"
        pairs += [("pricing_unit", applied.unit.code), ("conversion_rate", rate)]
    return replace(form, pairs=(*form.pairs, *pairs))


def billed_as(charge: Charge) -> str:
    """The one of BILLED that a charge is."""
    if not charge.pay_in_advance:
        return IN_ARREARS
    if charge.invoiceable:
        return INVOICED
    return GATHERED if charge.regroup_paid_fees else ALONE


def amount_text(cents: int, currency: str) -> str:
    """An amount as it is typed."""
    with exact():
        amount = Decimal(cents) / subunits(currency)
    return f"{amount:.{CURRENCIES[currency]}f}"


def to_cents(text: str, currency: str) -> Any:
    """An amount as the API takes it; what is none is passed on, for the API to refuse."""
    return _to_smallest(text, currency, CURRENCIES[currency]) if currency in CURRENCIES else text


def _to_smallest(text: str, unit: str, places: int) -> Any:
    """An amount in its smallest units; likewise."""
    value = number_or_none(text)
    if value is None:
        return text
    with exact():
        cents = value.scaleb(places)
    return int(cents) if cents == int(cents) else FinerAmount.than(text, unit, places)
