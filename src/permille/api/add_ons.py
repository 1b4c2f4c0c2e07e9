"""Add-ons. semantics-billing.md section 11.10."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import add_on as objects
from permille.api.render import instant
from permille.api.taxes import known_taxes, read_taxes, render_tax
from permille.api.validation import LONG_TEXT, MANDATORY, Fields
from permille.core.add_on import AddOn
from permille.core.record import replace
from permille.store import add_ons
from permille.usecases.catalogue import add_ons as catalogue


def read_add_on(conn: Connection[Any], organization_id: UUID, fields: Fields, before: AddOn) -> AddOn:
    """The add-on as the fields want it: a new one over a blank one, or a known one changed. Raises Invalid, NotFound."""
    is_new = not before.code
    read: dict[str, Any] = {}
    for name in ("name", "code"):
        if is_new or fields.has(name):
            read[name] = fields.text(name, mandatory=True) or ""
    for name, limit in (("invoice_display_name", None), ("description", LONG_TEXT)):
        if fields.has(name):
            read[name] = fields.text(name, limit=limit) if limit else fields.text(name)
    if fields.given.get("amount_cents") is not None:
        read["amount_cents"] = fields.whole("amount_cents", minimum=0) or 0
    elif is_new:
        fields.refuse("amount_cents", MANDATORY)
    if fields.given.get("amount_currency") is not None:
        read["amount_currency"] = fields.currency("amount_currency", mandatory=True) or ""
    elif is_new:
        fields.refuse("amount_currency", MANDATORY)
    if (own := read_taxes(fields, known_taxes(conn, organization_id, [fields]))) is not None:
        read["taxes"] = own
    fields.check()
    return replace(before, **read)


def create_add_on(call: Call) -> dict[str, Any]:
    """POST /add_ons."""
    blank = catalogue.blank(call.conn, call.organization.id, now=call.now)
    made = read_add_on(call.conn, call.organization.id, Fields(call.root("add_on")), blank)
    catalogue.add(call.conn, call.organization.id, made)
    return {"add_on": render_add_on(made)}


def list_add_ons(call: Call) -> dict[str, Any]:
    """GET /add_ons."""
    page = call.page()
    rows, total = add_ons.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"add_ons": [render_add_on(row) for row in rows], "meta": page.meta(total)}


def show_add_on(call: Call) -> dict[str, Any]:
    """GET /add_ons/{code}."""
    return {"add_on": render_add_on(catalogue.by_code(call.conn, call.organization.id, call.path["code"]))}


def update_add_on(call: Call) -> dict[str, Any]:
    """PUT /add_ons/{code}: invoices that are made stay as they are."""
    before = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    after = read_add_on(call.conn, call.organization.id, Fields(call.root("add_on")), before)
    catalogue.change(call.conn, call.organization.id, after, now=call.now)
    return {"add_on": render_add_on(after)}


def delete_add_on(call: Call) -> dict[str, Any]:
    """DELETE /add_ons/{code}."""
    gone = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    catalogue.remove(call.conn, gone, now=call.now)
    return {"add_on": render_add_on(gone)}


def render_add_on(row: AddOn) -> objects.AddOn:
    return objects.AddOn(
        lago_id=row.id,
        name=row.name,
        invoice_display_name=row.invoice_display_name,
        code=row.code,
        amount_cents=row.amount_cents,
        amount_currency=row.amount_currency,
        description=row.description,
        created_at=instant(row.created_at),
        taxes=[render_tax(tax) for tax in row.taxes],
    )
