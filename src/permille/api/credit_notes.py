"""Credit notes over the Lago API: lists and single ones. Source: semantics-billing.md 11.9."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.customers import render_customer
from permille.api.fees import render_fee, surroundings
from permille.api.http import Call
from permille.api.objects import credit_note as objects
from permille.api.render import instant
from permille.api.validation import parse_uuid
from permille.core.customer import Customer
from permille.core.errors import Invalid, NotFound
from permille.core.instants import parse_day
from permille.core.money import decimal_text
from permille.store import credit_notes, customers, fees as fee_store, invoices
from permille.store.credit_notes import CreditNote, CreditNoteSearch
from permille.store.invoices import StoredInvoice


def list_credit_notes(call: Call) -> dict[str, Any]:
    """GET /credit_notes, newest first."""
    errors: dict[str, list[str]] = {}
    search = CreditNoteSearch(
        external_customer_id=_text(call, "external_customer_id"),
        credit_status=_text(call, "credit_status"),
        refund_status=_text(call, "refund_status"),
        reason=_text(call, "reason"),
        currency=_text(call, "currency"),
        invoice_number=_text(call, "invoice_number"),
        issuing_date_from=_date(call, "issuing_date_from", errors),
        issuing_date_to=_date(call, "issuing_date_to", errors),
        amount_from=_whole(call, "amount_from", errors),
        amount_to=_whole(call, "amount_to", errors),
    )
    if errors:
        raise Invalid(errors)
    page = call.page()
    rows, total = credit_notes.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"credit_notes": _rendered(call.conn, rows), "meta": page.meta(total)}


def _text(call: Call, name: str) -> str | None:
    return (call.query.get(name) or "").replace("\0", "") or None


def _date(call: Call, name: str, errors: dict[str, list[str]]) -> date | None:
    value = call.query.get(name)
    found = parse_day(value)
    if value and found is None:
        errors[name] = ["invalid_date"]
    return found


def _whole(call: Call, name: str, errors: dict[str, list[str]]) -> int | None:
    value = call.query.get(name)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        errors[name] = ["value_is_invalid"]
        return None
    return int(value)


def show_credit_note(call: Call) -> dict[str, Any]:
    """GET /credit_notes/{lago_id}."""
    note_id = parse_uuid(call.path["lago_id"])
    found = credit_notes.by_ids(call.conn, [note_id]).get(note_id) if note_id else None
    if found is None or found.organization_id != call.organization.id:
        raise NotFound("credit_note")
    return {"credit_note": _rendered(call.conn, [found])[0]}


def render_whole_credit_note(conn: Connection[Any], note_id: UUID) -> objects.CreditNote | None:
    """The note as webhooks carry it; None when there is none."""
    found = credit_notes.by_ids(conn, [note_id]).get(note_id)
    return _rendered(conn, [found])[0] if found else None


def _rendered(conn: Connection[Any], rows: Sequence[CreditNote]) -> list[objects.CreditNote]:
    items = credit_notes.items_of(conn, [row.id for row in rows])
    fees = fee_store.by_ids(conn, {item.fee_id for own in items.values() for item in own})
    around = surroundings(conn, list(fees.values()))
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    known = invoices.invoices_by_ids(conn, {row.invoice_id for row in rows})
    return [
        _render(
            row,
            payer=payers[row.customer_id],
            invoice=known[row.invoice_id],
            items=[
                objects.CreditNoteItem(
                    lago_id=item.id,
                    amount_cents=item.amount_cents,
                    precise_amount_cents=decimal_text(item.precise_amount_cents),
                    amount_currency=row.currency,
                    fee=render_fee(fees[item.fee_id], around),
                )
                for item in items[row.id]
            ],
        )
        for row in rows
    ]


def _render(
    row: CreditNote, *, payer: Customer, invoice: StoredInvoice, items: list[objects.CreditNoteItem]
) -> objects.CreditNote:
    return objects.CreditNote(
        lago_id=row.id,
        sequential_id=row.sequential_id,
        number=row.number,
        lago_invoice_id=row.invoice_id,
        issuing_date=row.issuing_date,
        credit_status=row.credit_status,
        refund_status=row.refund_status,
        reason=row.reason,
        description=row.description,
        currency=row.currency,
        total_amount_cents=row.total_amount_cents,
        precise_total_amount_cents=decimal_text(row.precise_total_amount_cents),
        taxes_amount_cents=row.taxes_amount_cents,
        precise_taxes_amount_cents=decimal_text(row.precise_taxes_amount_cents),
        taxes_rate=float(row.taxes_rate),
        sub_total_excluding_taxes_amount_cents=row.sub_total_excluding_taxes_amount_cents,
        balance_amount_cents=row.balance_amount_cents,
        credit_amount_cents=row.credit_amount_cents,
        refund_amount_cents=row.refund_amount_cents,
        offset_amount_cents=row.offset_amount_cents,
        coupons_adjustment_amount_cents=int(row.coupons_adjustment_amount_cents),
        applied_taxes=[
            objects.CreditNoteAppliedTax(**{**each, "tax_rate": float(each["tax_rate"])})
            for each in row.applied_taxes
        ],
        file_url=None,
        xml_url=None,
        self_billed=False,
        error_details=[],
        metadata={},
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
        billing_entity_code=payer.billing_entity.code,
        invoice_number=invoice.number,
        purchase_order_number=invoice.purchase_order_number,
        customer=render_customer(payer),
        items=items,
    )
