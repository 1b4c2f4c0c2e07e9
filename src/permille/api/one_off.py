"""POST /invoices: a one-off invoice of add-ons. Source: semantics-billing.md section 4.12."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.custom_sections import read_choice
from permille.api.http import Call
from permille.api.invoices import render_whole
from permille.api.taxes import known_taxes, read_taxes
from permille.api.validation import INVALID, LONG_TEXT, Fields
from permille.core.add_on import AddOn
from permille.core.errors import NotFound
from permille.core.invoice.one_off import SoldAddOn
from permille.core.tax import Tax
from permille.store import add_ons, billing_entities
from permille.usecases import one_off
from permille.usecases.catalogue import customers as catalogue

UNITS_MAX = 10**15


def create_one_off(call: Call) -> dict[str, Any]:
    """POST /invoices: final at once."""
    fields = Fields(call.root("invoice"))
    currency = fields.currency("currency")
    sold = read_sold(call.conn, call.organization.id, fields)
    external_id, entity_code = fields.text("external_customer_id"), fields.text("billing_entity_code")
    choice = read_choice(call.conn, call.organization.id, fields, now=call.now)
    fields.check()
    customer = catalogue.by_external_id(call.conn, call.organization.id, external_id or "")
    entity = billing_entities.by_code(call.conn, call.organization.id, entity_code) if entity_code else None
    if entity_code and entity is None:
        raise NotFound("billing_entity")
    made = one_off.create(
        call.conn,
        customer,
        sold,
        currency=currency,
        billing_entity=entity,
        section_choice=choice,
        now=call.now,
    )
    return {"invoice": render_whole(call.conn, made)}


def read_sold(conn: Connection[Any], organization_id: UUID, fields: Fields) -> list[SoldAddOn]:
    """The lines under `fees`; problems gather in the fields. Raises NotFound for unknown add-ons and taxes."""
    entries = fields.objects("fees") or []
    taxes = known_taxes(conn, organization_id, entries)
    codes = [each.text("add_on_code") or "" for each in entries]
    known = {each.code: each for each in add_ons.by_codes(conn, organization_id, set(codes))}
    if set(codes) - known.keys() and "fees" not in fields.errors:
        raise NotFound("add_on")
    return [
        _sold(entry, known[code], taxes) for entry, code in zip(entries, codes, strict=True) if code in known
    ]


def _sold(entry: Fields, add_on: AddOn, taxes: Mapping[str, Tax]) -> SoldAddOn:
    units = entry.decimal("units", minimum=0, maximum=UNITS_MAX)
    return SoldAddOn(
        add_on=add_on,
        units=Decimal(1) if units is None else units,
        unit_amount_cents=entry.whole("unit_amount_cents", minimum=0),
        invoice_display_name=entry.text("invoice_display_name") or None,
        description=entry.text("description", limit=LONG_TEXT),
        period=_period(entry),
        taxes=read_taxes(entry, taxes) or (),
    )


def _period(entry: Fields) -> tuple[datetime, datetime] | None:
    """Both ends or none, in this order."""
    from_ = entry.instant("from_datetime", code=INVALID)
    to = entry.instant("to_datetime", code=INVALID)
    if from_ is None and to is None:
        return None
    if from_ is None or to is None or to < from_:
        entry.refuse("boundaries", "values_are_invalid")
        return None
    return from_, to
