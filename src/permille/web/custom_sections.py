"""Custom sections of invoices: the list, one to make, to change or to delete, and those of a subscription."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from permille.api.custom_sections import read_choice, read_section
from permille.api.validation import Fields
from permille.core.errors import NotFound
from permille.store import (
    custom_sections as store,
    customers,
    section_choices,
    subscriptions as subscription_store,
)
from permille.usecases.catalogue import custom_sections, subscriptions
from permille.web.shown import in_path
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


def choice_menu(visit: Visit, owner_id: UUID | None) -> dict[str, Any]:
    """What the fields of section_choice.html show: what a subscription or a wallet has chosen, None for a new one."""
    choice = section_choices.of(visit.conn, [owner_id]).get(owner_id) if owner_id else None
    return {
        "custom_sections": known_sections(visit),
        "chosen_sections": [section.code for section in choice.sections] if choice else [],
        "skips_sections": choice is not None and choice.skips,
    }


def choice_body(form: Form) -> dict[str, Any]:
    """What these fields say, as the API takes it; nothing where the form has none."""
    if not form.has(CHOSEN):
        return {}
    skips = form.get("skip_invoice_custom_sections") == "true"
    return {"invoice_custom_section": {**read_chosen(form), "skip_invoice_custom_sections": skips}}


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


def of_subscription(visit: Visit) -> HtmlPage:
    """GET /app/subscription-sections/{external_id}."""
    rows = subscription_store.history(visit.conn, visit.here.id, visit.path["external_id"])
    row = next((each for each in rows if each.status in ("active", "pending")), None)
    if row is None:
        raise NotFound("subscription")
    customer = customers.by_ids(visit.conn, [row.customer_id])[row.customer_id]
    context = {"row": row, "customer": customer, **choice_menu(visit, row.id)}
    return HtmlPage(template="subscription_sections.html", context=context)


def choose_of_subscription(visit: Visit) -> Done:
    """POST /app/subscription-sections/{external_id}."""
    before = subscriptions.to_change(visit.conn, visit.here.id, visit.path["external_id"], status="active")
    body = choice_body(visit.form)
    choice = read_choice(visit.conn, visit.here.id, Fields(body), now=visit.now)
    subscriptions.change(visit.conn, before, columns={}, section_choice=choice, now=visit.now)
    customer = customers.by_ids(visit.conn, [before.customer_id])[before.customer_id]
    to = f"/app/customers/{in_path(customer.external_id)}?tab=subscriptions&said=saved"
    return Done(action="changed subscription", subject=before.external_id, to=to, details=body)
