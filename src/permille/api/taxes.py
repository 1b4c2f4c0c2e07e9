"""Taxes, and reading `tax_codes` where they apply. semantics-billing.md sections 1.4 and 5.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from msgspec import UNSET, UnsetType
from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import tax as objects
from permille.api.render import instant
from permille.api.validation import LONG_TEXT, Fields
from permille.core.errors import NotFound
from permille.core.tax import Tax
from permille.store import taxes
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases.catalogue import taxes as catalogue

RATE_MAX = 1_000


def create_tax(call: Call) -> dict[str, Any]:
    """POST /taxes."""
    fields = Fields(call.root("tax"))
    columns = {
        "name": fields.text("name", mandatory=True),
        "code": fields.text("code", mandatory=True),
        "rate": _rate(fields),
        "description": fields.text("description", limit=LONG_TEXT),
        "applied_to_organization": fields.flag("applied_to_organization") or False,
    }
    if fields.given.get("rate") is None:
        fields.refuse("rate", "value_is_mandatory")
    fields.check()
    made = catalogue.add(call.conn, call.organization.id, columns=columns, now=call.now)
    return {"tax": _shown(call, [made])[0]}


def _rate(fields: Fields) -> Any:
    return fields.decimal("rate", minimum=0, maximum=RATE_MAX)


def list_taxes(call: Call) -> dict[str, Any]:
    """GET /taxes."""
    page = call.page()
    rows, total = taxes.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"taxes": _shown(call, rows), "meta": page.meta(total)}


def show_tax(call: Call) -> dict[str, Any]:
    """GET /taxes/{code}."""
    found = catalogue.by_code(call.conn, call.organization.id, call.path["code"])
    return {"tax": _shown(call, [found])[0]}


def update_tax(call: Call) -> dict[str, Any]:
    """PUT /taxes/{code}: invoices that are made stay as they are."""
    before = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    fields = Fields(call.root("tax"))
    changes: dict[str, Any] = {}
    for name in ("name", "code"):
        if fields.has(name):
            changes[name] = fields.text(name, mandatory=True) or ""
    if fields.given.get("rate") is not None:
        changes["rate"] = _rate(fields)
    if fields.has("description"):
        changes["description"] = fields.text("description", limit=LONG_TEXT)
    if (applied := fields.flag("applied_to_organization")) is not None:
        changes["applied_to_organization"] = applied
    fields.check()
    after = catalogue.change(call.conn, call.organization.id, before, changes=changes, now=call.now)
    return {"tax": _shown(call, [after])[0]}


def delete_tax(call: Call) -> dict[str, Any]:
    """DELETE /taxes/{code}: it applies to nothing any more."""
    gone = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    catalogue.remove(call.conn, call.organization.id, gone, now=call.now)
    return {"tax": render_tax(gone, applied_to=[])}


def _shown(call: Call, rows: Sequence[Tax]) -> list[objects.Tax]:
    """As the endpoints of taxes show them: with the billing entities that they apply to."""
    entities = taxes.billing_entity_codes(call.conn, call.organization.id)
    return [render_tax(row, applied_to=entities.get(row.id, [])) for row in rows]


def known_taxes(conn: Connection[Any], organization_id: UUID, entries: Iterable[Fields]) -> Mapping[str, Tax]:
    """The taxes that any of these objects names in `tax_codes`. Raises NotFound when there is no such tax."""
    wanted = {
        code
        for entry in entries
        for code in _listed(entry.given.get("tax_codes"))
        if isinstance(code, str) and "\0" not in code
    }
    found = taxes.by_codes(conn, organization_id, wanted) if wanted else {}
    if wanted - found.keys():
        raise NotFound("tax")
    return found


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def read_taxes(fields: Fields, known: Mapping[str, Tax]) -> tuple[Tax, ...] | None:
    """The taxes of an object by its `tax_codes`, None when it does not speak of them (or says null)."""
    codes = fields.texts("tax_codes")
    if codes is None:
        return None
    return tuple(known[code] for code in sorted(set(codes)) if code in known)


def render_tax(tax: Tax, *, applied_to: list[str] | UnsetType = UNSET) -> objects.Tax:
    """The tax. The codes of the billing entities that it applies to are left out where other objects show it."""
    return objects.Tax(
        lago_id=tax.id,
        name=tax.name,
        code=tax.code,
        rate=float(tax.rate),
        description=tax.description,
        applied_to_organization=tax.applied_to_organization,
        add_ons_count=0,
        customers_count=0,
        plans_count=0,
        charges_count=0,
        commitments_count=0,
        created_at=instant(tax.created_at),
        applied_to_billing_entities_codes=applied_to,
    )


def render_invoice_taxes(invoice: StoredInvoice) -> list[objects.InvoiceAppliedTax]:
    """The `applied_taxes` of an invoice, as they were when it was made."""
    return [
        objects.InvoiceAppliedTax(
            **_applied(each, invoice.id, invoice.currency, invoice.created_at),
            fees_amount_cents=each["fees_amount_cents"],
            lago_invoice_id=invoice.id,
        )
        for each in invoice.applied_taxes
    ]


def render_fee_taxes(fee: StoredFee) -> list[objects.FeeAppliedTax]:
    """The `applied_taxes` of a fee, as they were when it was made."""
    return [
        objects.FeeAppliedTax(
            **_applied(each, fee.id, fee.amount_currency, fee.created_at), lago_fee_id=fee.id
        )
        for each in fee.applied_taxes
    ]


def _applied(each: Mapping[str, Any], owner_id: UUID, currency: str, at: datetime) -> dict[str, Any]:
    """What an invoice or a fee shows of a tax. Old rows have an id of their own; of others it follows from both."""
    return {
        "lago_id": each.get("lago_id") or str(uuid5(owner_id, each["lago_tax_id"])),
        "lago_tax_id": each["lago_tax_id"],
        "tax_name": each["tax_name"],
        "tax_code": each["tax_code"],
        "tax_rate": float(each["tax_rate"]),
        "tax_description": each["tax_description"],
        "amount_cents": each["amount_cents"],
        "amount_currency": currency,
        "created_at": instant(at),
    }
