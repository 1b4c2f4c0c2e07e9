"""Custom sections of invoices: the list, and one to make, to change or to delete."""

from __future__ import annotations

from typing import Any

from permille.api.custom_sections import read_section
from permille.api.validation import Fields
from permille.store import custom_sections as store
from permille.usecases.catalogue import custom_sections
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/custom-sections"
CHOSEN = "invoice_custom_section_codes"
MENU_MAX = 200


def listing(visit: Visit) -> HtmlPage:
    """GET /app/custom-sections."""
    page = visit.page()
    found, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    return HtmlPage(template="custom_sections.html", context={"sections": found, "meta": page.meta(total)})


def known_sections(visit: Visit) -> list[tuple[str, str]]:
    """For a list of boxes to tick."""
    found, _ = store.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    return [(section.code, section.name) for section in found]


def read_chosen(form: Form) -> dict[str, Any]:
    """The boxes that are ticked, where the form has them."""
    return {CHOSEN: [code for code in form.all(CHOSEN) if code]} if form.has(CHOSEN) else {}


def blank(_visit: Visit) -> HtmlPage:
    """GET /app/new-custom-section."""
    return HtmlPage(template="custom_section_form.html", context={"before": None})


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-custom-section/{code}."""
    known = custom_sections.by_code(visit.conn, visit.here.id, visit.path["code"])
    return HtmlPage(template="custom_section_form.html", context={"before": known})


def _body(form: Form) -> dict[str, Any]:
    body = {name: form.get(name) or None for name in ("description", "display_name")}
    details = form.get("details").replace("\r\n", "\n") or None
    return {**body, "details": details, "name": form.get("name"), "code": form.get("code")}


def create(visit: Visit) -> Done:
    """POST /app/new-custom-section."""
    body = _body(visit.form)
    made = read_section(Fields(body), custom_sections.blank(visit.conn, visit.here.id, now=visit.now))
    custom_sections.add(visit.conn, made)
    return Done(
        action="created custom section", subject=made.code, to=f"{LISTING}?said=created", details=body
    )


def update(visit: Visit) -> Done:
    """POST /app/edit-custom-section/{code}."""
    body = _body(visit.form)
    known = custom_sections.to_change(visit.conn, visit.here.id, visit.path["code"])
    custom_sections.change(visit.conn, read_section(Fields(body), known), now=visit.now)
    return Done(action="changed custom section", subject=known.code, to=f"{LISTING}?said=saved", details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-custom-section/{code}."""
    gone = custom_sections.to_change(visit.conn, visit.here.id, visit.path["code"])
    custom_sections.remove(visit.conn, gone, now=visit.now)
    return Done(action="deleted custom section", subject=gone.code, to=f"{LISTING}?said=deleted")
