"""Pricing units, like credits: the list, and one to make, to change or to delete."""

from __future__ import annotations

from typing import Any

from permille.api import pricing_units as api
from permille.web.visit import Done, Form, Page, Visit

LISTING = "/app/pricing-units"


def listing(visit: Visit) -> Page:
    """GET /app/pricing-units."""
    found = api.list_pricing_units(visit.call(query=visit.page_query()))
    context = {"units": found["pricing_units"], "meta": found["meta"]}
    return Page(template="pricing_units.html", context=context)


def blank(_visit: Visit) -> Page:
    """GET /app/new-pricing-unit."""
    return Page(template="pricing_unit_form.html", context={"before": None})


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
    made = api.create_pricing_unit(visit.call(body={"pricing_unit": body}))["pricing_unit"]
    to = f"{LISTING}?said=created"
    return Done(action="created pricing unit", subject=made.code, to=to, details=body)


def before(visit: Visit) -> Page:
    """GET /app/edit-pricing-unit/{code}."""
    found = api.show_pricing_unit(visit.call(path=visit.path))["pricing_unit"]
    return Page(template="pricing_unit_form.html", context={"before": found})


def update(visit: Visit) -> Done:
    """POST /app/edit-pricing-unit/{code}."""
    body = _read(visit.form)
    api.update_pricing_unit(visit.call(path=visit.path, body={"pricing_unit": body}))
    to = f"{LISTING}?said=saved"
    return Done(action="changed pricing unit", subject=visit.path["code"], to=to, details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-pricing-unit/{code}."""
    api.delete_pricing_unit(visit.call(path=visit.path))
    to = f"{LISTING}?said=deleted"
    return Done(action="deleted pricing unit", subject=visit.path["code"], to=to)
