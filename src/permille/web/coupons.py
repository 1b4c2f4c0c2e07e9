"""Coupons: the list, one with the customers that have it, the forms, and a customer's coupons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.coupons import (
    read_changed_coupon,
    read_coupon,
    read_own_discount,
    render_applied_coupon,
    render_coupons,
)
from permille.api.objects.coupon import Coupon as ShownCoupon
from permille.api.validation import Fields, parse_uuid
from permille.core.coupon import Coupon, CouponStatus, CouponType, Expiration, Frequency
from permille.store import billable_metrics, coupons as store, plans
from permille.store.coupons import AppliedCouponSearch
from permille.usecases import coupons
from permille.usecases.catalogue import customers
from permille.web import price_grid
from permille.web.charge_form import amount_text, to_cents
from permille.web.shown import currencies, in_path
from permille.web.typed_number import json_number
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/coupons"
MENU_MAX = 200
TYPES = ((CouponType.PERCENTAGE, "A percentage"), (CouponType.FIXED_AMOUNT, "An amount"))
FREQUENCIES = (
    (Frequency.ONCE, "Once"),
    (Frequency.RECURRING, "On several invoices"),
    (Frequency.FOREVER, "On every invoice"),
)
FIELDS = {"amount_cents": "amount"}


def listing(visit: Visit) -> HtmlPage:
    """GET /app/coupons."""
    page = visit.page()
    rows, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    shown = render_coupons(visit.conn, rows, now=visit.now)
    return HtmlPage(template="coupons.html", context={"coupons": shown, "meta": page.meta(total)})


def detail(visit: Visit) -> HtmlPage:
    """GET /app/coupons/{code}: the coupon and the customers that have it."""
    coupon, page = _named(visit), visit.page()
    search = AppliedCouponSearch(coupon_codes=[coupon.code])
    rows, total = store.applied_listing(
        visit.conn, visit.here.id, search, limit=page.per_page, offset=page.offset
    )
    context = {
        "coupon": render_coupons(visit.conn, [coupon], now=visit.now)[0],
        "applied": [render_applied_coupon(row, now=visit.now) for row in rows],
        "meta": page.meta(total),
    }
    return HtmlPage(template="coupon.html", context=context)


def _named(visit: Visit) -> Coupon:
    return coupons.by_code(visit.conn, visit.here.id, visit.path["code"])


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-coupon."""
    return _form(visit, None, is_applied=False)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-coupon/{code}."""
    known = _named(visit)
    is_applied = store.is_applied(visit.conn, known.id)
    return _form(visit, render_coupons(visit.conn, [known], now=visit.now)[0], is_applied=is_applied)


def _form(visit: Visit, known: ShownCoupon | None, *, is_applied: bool) -> HtmlPage:
    sold = plans.menu(visit.conn, visit.here.id, limit=MENU_MAX)
    metrics, _ = billable_metrics.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    cents, currency = (known.amount_cents, known.amount_currency) if known else (None, None)
    context = {
        "before": known,
        "is_applied": is_applied,
        "types": TYPES,
        "frequencies": FREQUENCIES,
        "currencies": [(one, one) for one in currencies()],
        "amount": amount_text(cents, currency) if cents is not None and currency else "",
        "plans": [(plan.code, plan.name) for plan in sold],
        "metrics": [(metric.code, metric.name) for metric in metrics],
        "problems": price_grid.beside(visit.problems, FIELDS),
    }
    return HtmlPage(template="coupon_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/new-coupon."""
    body = {**_always(visit.form), **_terms(visit.form)}
    made = read_coupon(visit.conn, visit.here.id, Fields(body), now=visit.now)
    coupons.add(visit.conn, made)
    return Done(action="created coupon", subject=made.code, to=_to(made.code, "created"), details=body)


def update(visit: Visit) -> Done:
    """POST /app/edit-coupon/{code}."""
    known = coupons.to_change(visit.conn, visit.here.id, visit.path["code"])
    body = {**_always(visit.form), **(_terms(visit.form) if visit.form.has("coupon_type") else {})}
    after = read_changed_coupon(visit.conn, Fields(body), known, now=visit.now)
    coupons.change(visit.conn, after, now=visit.now)
    return Done(action="changed coupon", subject=after.code, to=_to(after.code, "saved"), details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-coupon/{code}."""
    gone = coupons.to_change(visit.conn, visit.here.id, visit.path["code"])
    coupons.remove(visit.conn, gone, now=visit.now)
    return Done(action="deleted coupon", subject=gone.code, to=f"{LISTING}?said=deleted")


def _to(code: str, said: str) -> str:
    return f"{LISTING}/{in_path(code)}?said={said}"


def _always(form: Form) -> dict[str, Any]:
    """What may change at any time."""
    until = form.get("expiration_at")
    return {
        "name": form.get("name"),
        "description": form.get("description") or None,
        "expiration": Expiration.TIME_LIMIT if until else Expiration.NO_EXPIRATION,
        "expiration_at": until or None,
    }


def _terms(form: Form) -> dict[str, Any]:
    """What is fixed as soon as a customer has the coupon."""
    return {
        "code": form.get("code"),
        "coupon_type": form.get("coupon_type"),
        "amount_currency": form.get("amount_currency"),
        **_numbers(form, form.get("amount_currency")),
        "frequency": form.get("frequency"),
        "reusable": form.has("reusable"),
        "applies_to": {"plan_codes": form.all("plan"), "billable_metric_codes": form.all("metric")},
    }


def _numbers(form: Form, currency: str) -> dict[str, Any]:
    rate, duration = form.get("percentage_rate"), form.get("frequency_duration")
    return {
        "amount_cents": to_cents(form.get("amount"), currency) if form.get("amount") else None,
        "percentage_rate": json_number(rate) if rate else None,
        "frequency_duration": json_number(duration, whole=True) if duration else None,
    }


def of_customer(visit: Visit) -> Mapping[str, Any]:
    """What the Coupons tab of a customer shows: what it has, what is left of it, and what it can be given."""
    page = visit.page()
    search = AppliedCouponSearch(external_customer_id=visit.path["external_id"])
    rows, total = store.applied_listing(
        visit.conn, visit.here.id, search, limit=page.per_page, offset=page.offset
    )
    every, _ = store.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    active = [one for one in every if one.status(visit.now) is CouponStatus.ACTIVE]
    return {
        "applied": [render_applied_coupon(row, now=visit.now) for row in rows],
        "meta": page.meta(total),
        "coupons": [(one.code, one.name) for one in active],
        "problems": price_grid.beside(visit.problems, FIELDS),
    }


def apply(visit: Visit) -> Done:
    """POST /app/apply-coupon/{external_id}: the customer gets a coupon, perhaps with another amount."""
    external_id, form = visit.path["external_id"], visit.form
    customer = customers.by_external_id(visit.conn, visit.here.id, external_id)
    coupon = coupons.to_apply(visit.conn, visit.here.id, form.get("coupon_code"), now=visit.now)
    body = _numbers(form, coupon.discount.amount_currency or "")
    fields = Fields(body)
    discount = read_own_discount(fields, coupon)
    fields.check()
    coupons.apply(visit.conn, customer, coupon.code, discount, now=visit.now)
    to = _tab(external_id, "saved")
    return Done(action="applied coupon", subject=external_id, to=to, details={"coupon": coupon.code, **body})


def end(visit: Visit) -> Done:
    """POST /app/end-coupon/{external_id}: the customer loses a coupon."""
    external_id = visit.path["external_id"]
    customer = customers.by_external_id(visit.conn, visit.here.id, external_id)
    ended = coupons.end(visit.conn, customer, parse_uuid(visit.form.get("lago_id")), now=visit.now)
    details = {"coupon": ended.applied.code}
    return Done(action="ended coupon", subject=external_id, to=_tab(external_id, "ended"), details=details)


def _tab(external_id: str, said: str) -> str:
    return f"/app/customers/{in_path(external_id)}?tab=coupons&said={said}"
