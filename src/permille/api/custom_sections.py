"""Invoice custom sections. Lago has them over GraphQL alone; semantics-billing.md section 1.2 says which apply."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import custom_section as objects
from permille.api.render import instant
from permille.api.validation import LONG_TEXT, Fields
from permille.core.custom_section import CustomSection, SectionChoice
from permille.core.errors import NotFound
from permille.core.record import replace
from permille.store import custom_sections, section_choices
from permille.store.invoices import StoredInvoice
from permille.usecases.catalogue import custom_sections as catalogue


def create_section(call: Call) -> dict[str, Any]:
    """POST /invoice_custom_sections."""
    blank = catalogue.blank(call.conn, call.organization.id, now=call.now)
    made = read_section(Fields(call.root("invoice_custom_section")), blank)
    catalogue.add(call.conn, made)
    return {"invoice_custom_section": render_section(made)}


def read_section(fields: Fields, before: CustomSection) -> CustomSection:
    """The section as the fields want it: a new one over a blank one, or a known one changed. Raises Invalid."""
    is_new = not before.code
    read: dict[str, Any] = {}
    for name in ("name", "code"):
        if is_new or fields.has(name):
            read[name] = fields.text(name, mandatory=True) or ""
    for name, limit in (("description", LONG_TEXT), ("display_name", None), ("details", LONG_TEXT)):
        if fields.has(name):
            read[name] = fields.text(name, limit=limit) if limit else fields.text(name)
    fields.check()
    return replace(before, **read)


def list_sections(call: Call) -> dict[str, Any]:
    """GET /invoice_custom_sections."""
    page = call.page()
    rows, total = custom_sections.listing(
        call.conn, call.organization.id, limit=page.per_page, offset=page.offset
    )
    return {"invoice_custom_sections": [render_section(row) for row in rows], "meta": page.meta(total)}


def show_section(call: Call) -> dict[str, Any]:
    """GET /invoice_custom_sections/{code}."""
    found = catalogue.by_code(call.conn, call.organization.id, call.path["code"])
    return {"invoice_custom_section": render_section(found)}


def update_section(call: Call) -> dict[str, Any]:
    """PUT /invoice_custom_sections/{code}."""
    before = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    after = read_section(Fields(call.root("invoice_custom_section")), before)
    catalogue.change(call.conn, after, now=call.now)
    return {"invoice_custom_section": render_section(after)}


def delete_section(call: Call) -> dict[str, Any]:
    """DELETE /invoice_custom_sections/{code}."""
    gone = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    catalogue.remove(call.conn, gone, now=call.now)
    return {"invoice_custom_section": render_section(gone)}


def read_chosen(conn: Connection[Any], organization_id: UUID, fields: Fields) -> list[UUID] | None:
    """The sections that `invoice_custom_section_codes` names, None where it is not sent or null. Raises NotFound."""
    codes = fields.texts("invoice_custom_section_codes")
    if codes is None:
        return None
    return [section.id for section in _known(conn, organization_id, codes)]


def _known(conn: Connection[Any], organization_id: UUID, codes: list[str]) -> list[CustomSection]:
    """The sections with these codes. Raises NotFound."""
    found = custom_sections.by_codes(conn, organization_id, codes)
    if len(found) < len(set(codes)):
        raise NotFound("invoice_custom_section")
    return found


def read_choice(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> SectionChoice | None:
    """What `invoice_custom_section` says, None where it is not sent or null. Raises NotFound."""
    given = fields.nested("invoice_custom_section")
    if given is None:
        return None
    skips = given.flag("skip_invoice_custom_sections") or False
    codes = [] if skips else given.texts("invoice_custom_section_codes") or []
    return SectionChoice(skips=skips, sections=tuple(_known(conn, organization_id, codes)), chosen_at=now)


class Chooser(Protocol):
    """An object of an answer that shows the sections of its own."""

    lago_id: UUID
    applied_invoice_custom_sections: list[objects.ChosenCustomSection]


def show_choices(conn: Connection[Any], shown: Iterable[Chooser]) -> None:
    """Let objects show which sections they have chosen."""
    known = {each.lago_id: each for each in shown}
    for owner_id, choice in section_choices.of(conn, known.keys()).items():
        known[owner_id].applied_invoice_custom_sections = [
            objects.ChosenCustomSection(
                lago_id=section.id,
                created_at=instant(choice.chosen_at),
                invoice_custom_section_id=section.id,
                invoice_custom_section=render_section(section),
            )
            for section in choice.sections
        ]


def render_section(section: CustomSection) -> objects.InvoiceCustomSection:
    """A section as the API shows it."""
    return objects.InvoiceCustomSection(
        lago_id=section.id,
        name=section.name,
        code=section.code,
        description=section.description,
        details=section.details,
        display_name=section.display_name,
        organization_id=section.organization_id,
        created_at=instant(section.created_at),
    )


def render_applied_sections(invoice: StoredInvoice) -> list[objects.AppliedCustomSection]:
    """The sections of an invoice, as they were when it was made."""
    return [
        objects.AppliedCustomSection(
            **each, lago_invoice_id=invoice.id, created_at=instant(invoice.created_at)
        )
        for each in invoice.custom_sections
    ]
