"""A one-off invoice: up to so many add-ons for a customer."""

from __future__ import annotations

from typing import Any

from permille.api.one_off import read_sold
from permille.api.validation import Fields
from permille.core.errors import Invalid
from permille.core.invoice.one_off import SoldAddOn
from permille.store import add_ons
from permille.usecases import one_off
from permille.usecases.catalogue import customers
from permille.web.charge_form import MENU_MAX, to_cents
from permille.web.visit import Done, HtmlPage, Visit

LINES = 5
BOXES = {"unit_amount_cents": "price", "invoice_display_name": "name", "add_on_code": "add_on"}
"""What the API's fields of a line are called in the form, but for its number."""


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-one-off/{external_id}."""
    customer = customers.by_external_id(visit.conn, visit.here.id, visit.path["external_id"])
    known, _ = add_ons.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    context = {
        "customer": customer,
        "currency": customer.currency or customer.billing_entity.default_currency,
        "add_ons": [("", "–"), *((each.code, each.name) for each in known)],
        "numbers": range(LINES),
    }
    return HtmlPage(template="one_off_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/new-one-off/{external_id}."""
    customer = customers.by_external_id(visit.conn, visit.here.id, visit.path["external_id"])
    currency = customer.currency or customer.billing_entity.default_currency
    lines = _lines(visit, currency)
    if not lines:
        raise Invalid({"base": ["fees_not_found"]})
    sold: list[SoldAddOn] = []
    problems: dict[str, list[str]] = {}
    for number, line in lines.items():
        fields = Fields({"fees": [line]})
        sold += read_sold(visit.conn, visit.here.id, fields)
        problems |= {f"{BOXES.get(name, name)}-{number}": codes for name, codes in fields.errors.items()}
    if problems:
        raise Invalid(problems)
    made = one_off.create(visit.conn, customer, sold, currency=currency, now=visit.now)
    return Done(
        action="created one-off invoice",
        subject=made.number,
        to=f"/app/invoices/{made.id}?said=created",
        details={"total_amount_cents": made.total_amount_cents, "currency": made.currency},
    )


def _lines(visit: Visit, currency: str) -> dict[int, dict[str, Any]]:
    """The lines with an add-on by their number, as the API takes them."""
    lines = {}
    for number in range(LINES):
        typed = visit.form.filled(*(f"{name}-{number}" for name in ("add_on", "units", "price", "name")))
        code, price = typed.get(f"add_on-{number}"), typed.get(f"price-{number}")
        if code:
            lines[number] = {
                "add_on_code": code,
                "units": typed.get(f"units-{number}", "1"),
                "unit_amount_cents": to_cents(price, currency) if price else None,
                "invoice_display_name": typed.get(f"name-{number}"),
            }
    return lines
