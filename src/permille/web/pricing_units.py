"""Pricing units, like credits: the list, and one to make, to change or to delete."""

from __future__ import annotations

from typing import Any

from permille.api.pricing_units import read_new_unit, read_unit_changes
from permille.api.validation import Fields
from permille.store import pricing_units as store
from permille.usecases.catalogue import pricing_units
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/pricing-units"


def listing(visit: Visit) -> HtmlPage:
    """GET /app/pricing-units."""
    page = visit.page()
    found, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    context = {"units": found, "meta": page.meta(total)}
    return HtmlPage(template="pricing_units.html", context=context)


def blank(_visit: Visit) -> HtmlPage:
    """GET /app/new-pricing-unit."""
    return HtmlPage(template="pricing_unit_form.html", context={"before": None})


def _read(form: Form) -> dict[str, Any]:
    return {
        "name": form.get("name"),
        "code": form.get("code"),
        "short_name": form.get("short_name"),
        "description": form.get("description") or None,
    }


def create(visit: Visit) -> Done:
    """POST /app/new-pricing-unit."""
    body = _read(visit.form)
    columns = read_new_unit(Fields(body))
    made = pricing_units.add(visit.conn, visit.here.id, columns=columns, now=visit.now)
    to = f"{LISTING}?said=created"
    return Done(action="created pricing unit", subject=made.code, to=to, details=body)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-pricing-unit/{code}."""
    found = pricing_units.by_code(visit.conn, visit.here.id, visit.path["code"])
    return HtmlPage(template="pricing_unit_form.html", context={"before": found})


def update(visit: Visit) -> Done:
    """POST /app/edit-pricing-unit/{code}."""
    body = _read(visit.form)
    known = pricing_units.to_change(visit.conn, visit.here.id, visit.path["code"])
    changes = read_unit_changes(Fields(body))
    pricing_units.change(visit.conn, visit.here.id, known, changes=changes, now=visit.now)
    to = f"{LISTING}?said=saved"
    return Done(action="changed pricing unit", subject=visit.path["code"], to=to, details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-pricing-unit/{code}."""
    gone = pricing_units.to_change(visit.conn, visit.here.id, visit.path["code"])
    pricing_units.remove(visit.conn, gone, now=visit.now)
    to = f"{LISTING}?said=deleted"
    return Done(action="deleted pricing unit", subject=visit.path["code"], to=to)
