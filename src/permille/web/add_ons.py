"""Add-ons: the list, and one to make, to change or to delete."""

from __future__ import annotations

from typing import Any

from permille.api.add_ons import read_add_on
from permille.api.validation import Fields
from permille.core.add_on import AddOn
from permille.store import add_ons as store
from permille.usecases.catalogue import add_ons
from permille.web import price_grid
from permille.web.charge_form import amount_text, known_taxes, read_taxes, to_cents
from permille.web.shown import currencies
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/add-ons"
TAX = "add_on_tax"


def listing(visit: Visit) -> HtmlPage:
    """GET /app/add-ons."""
    page = visit.page()
    found, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    return HtmlPage(template="add_ons.html", context={"add_ons": found, "meta": page.meta(total)})


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-add-on."""
    return _form(visit, None)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-add-on/{code}."""
    return _form(visit, add_ons.by_code(visit.conn, visit.here.id, visit.path["code"]))


def _form(visit: Visit, known: AddOn | None) -> HtmlPage:
    context = {
        "before": known,
        "amount": amount_text(known.amount_cents, known.amount_currency) if known else "",
        "currencies": [(one, one) for one in currencies()],
        "taxes": known_taxes(visit),
        "problems": price_grid.beside(visit.problems, {"amount_cents": "amount"}),
        "chosen": [tax.code for tax in known.taxes] if known else [],
    }
    return HtmlPage(template="add_on_form.html", context=context)


def _body(form: Form) -> dict[str, Any]:
    currency = form.get("amount_currency")
    return {
        "name": form.get("name"),
        "code": form.get("code"),
        "invoice_display_name": form.get("invoice_display_name") or None,
        "description": form.get("description") or None,
        "amount_currency": currency,
        "amount_cents": to_cents(form.get("amount") or "0", currency),
        **read_taxes(form, TAX),
    }


def create(visit: Visit) -> Done:
    """POST /app/new-add-on."""
    body = _body(visit.form)
    blank = add_ons.blank(visit.conn, visit.here.id, now=visit.now)
    made = read_add_on(visit.conn, visit.here.id, Fields(body), blank)
    add_ons.add(visit.conn, visit.here.id, made)
    return Done(action="created add-on", subject=made.code, to=f"{LISTING}?said=created", details=body)


def update(visit: Visit) -> Done:
    """POST /app/edit-add-on/{code}."""
    body = _body(visit.form)
    known = add_ons.to_change(visit.conn, visit.here.id, visit.path["code"])
    after = read_add_on(visit.conn, visit.here.id, Fields(body), known)
    add_ons.change(visit.conn, visit.here.id, after, now=visit.now)
    return Done(action="changed add-on", subject=known.code, to=f"{LISTING}?said=saved", details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-add-on/{code}."""
    gone = add_ons.to_change(visit.conn, visit.here.id, visit.path["code"])
    add_ons.remove(visit.conn, gone, now=visit.now)
    return Done(action="deleted add-on", subject=gone.code, to=f"{LISTING}?said=deleted")
