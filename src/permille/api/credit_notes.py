"""Credit notes over the Lago API. Source: semantics-billing.md sections 7 and 11.9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection
from starlette.datastructures import QueryParams

from permille.api.customers import customer_of, render_customer
from permille.api.fees import render_fee, surroundings
from permille.api.http import Call, Engine, Raw
from permille.api.invoices import issuers
from permille.api.metadata import checked_metadata, read_metadata, sent_metadata, without_key
from permille.api.objects import credit_note as objects
from permille.api.objects.base import Number
from permille.api.pdf import pdf_answer, printer_of
from permille.api.render import instant
from permille.api.validation import LONG_TEXT, Fields, parse_uuid, query_texts
from permille.core.customer import Customer
from permille.core.errors import Invalid, NotFound
from permille.core.instants import parse_day
from permille.core.invoice.crediting import CreditSplit
from permille.core.money import decimal_text
from permille.core.organization import Organization
from permille.core.record import replace
from permille.http.query import query_flag
from permille.out.pdf.assembly import credit_note_document
from permille.store import credit_notes, customers, fees as fee_store, invoices
from permille.store.credit_notes import CreditNote, CreditNoteSearch
from permille.store.invoices import StoredInvoice
from permille.usecases import credit_notes as credit_note_usecase, documents
from permille.usecases.credit_notes import CreditNoteEstimate, CreditNoteRequest


def list_credit_notes(call: Call) -> dict[str, Any]:
    """GET /credit_notes, newest first."""
    return _listing(call, read_search(call.query))


def list_customer_credit_notes(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/credit_notes."""
    customer = customer_of(call)
    return _listing(call, replace(read_search(call.query), external_customer_id=customer.external_id))


def read_search(query: QueryParams) -> CreditNoteSearch:
    """The filters that an address's query names. Raises Invalid."""
    errors: dict[str, list[str]] = {}
    search = CreditNoteSearch(
        external_customer_id=_text(query, "external_customer_id"),
        credit_status=_text(query, "credit_status"),
        refund_status=_text(query, "refund_status"),
        reason=_text(query, "reason"),
        currency=_text(query, "currency"),
        invoice_number=_text(query, "invoice_number"),
        issuing_date_from=_date(query, "issuing_date_from", errors),
        issuing_date_to=_date(query, "issuing_date_to", errors),
        amount_from=_whole(query, "amount_from", errors),
        amount_to=_whole(query, "amount_to", errors),
        search_term=_text(query, "search_term"),
        billing_entity_codes=query_texts(query, "billing_entity_codes") or None,
        self_billed=query_flag(query, "self_billed"),
    )
    if errors:
        raise Invalid(errors)
    return search


def _listing(call: Call, search: CreditNoteSearch) -> dict[str, Any]:
    page = call.page()
    rows, total = credit_notes.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"credit_notes": render_credit_notes(call.conn, rows), "meta": page.meta(total)}


def _text(query: QueryParams, name: str) -> str | None:
    return (query.get(name) or "").replace("\0", "") or None


def _date(query: QueryParams, name: str, errors: dict[str, list[str]]) -> date | None:
    value = query.get(name)
    found = parse_day(value)
    if value and found is None:
        errors[name] = ["invalid_date"]
    return found


def _whole(query: QueryParams, name: str, errors: dict[str, list[str]]) -> int | None:
    value = query.get(name)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        errors[name] = ["value_is_invalid"]
        return None
    return int(value)


def show_credit_note(call: Call) -> dict[str, Any]:
    """GET /credit_notes/{lago_id}."""
    return _shown(call, credit_note_usecase.by_id(call.conn, call.organization.id, _id(call)))


def estimate_credit_note(call: Call) -> dict[str, Any]:
    """POST /credit_notes/estimate: what a note would come to; nothing is saved."""
    request = read_request(Fields(call.root("credit_note")), with_parts=False)
    found = credit_note_usecase.estimate(call.conn, call.organization.id, request)
    return {"estimated_credit_note": render_estimate(found)}


def create_credit_note(call: Call) -> dict[str, Any]:
    """POST /credit_notes."""
    request = read_request(Fields(call.root("credit_note")), with_parts=True)
    return _shown(call, credit_note_usecase.create(call.conn, call.organization.id, request, now=call.now))


def update_credit_note(call: Call) -> dict[str, Any]:
    """PUT /credit_notes/{lago_id}: whether its refund was paid, and its metadata."""
    note = _to_change(call)
    fields = Fields(call.root("credit_note"))
    status = fields.choice("refund_status", objects.REFUND_STATUSES)
    metadata = (read_metadata(fields) or {}) if fields.has("metadata") else None
    fields.check()
    changed = credit_note_usecase.update(
        call.conn, note, refund_status=status, metadata=metadata, now=call.now
    )
    return _shown(call, changed)


def void_credit_note(call: Call) -> dict[str, Any]:
    """PUT /credit_notes/{lago_id}/void: the credit that is left is given up."""
    return _shown(call, credit_note_usecase.void(call.conn, _to_change(call), now=call.now))


def download_credit_note(call: Call) -> dict[str, Any]:
    """POST /credit_notes/{lago_id}/download: where the PDF is; it is made when it is fetched."""
    note = credit_note_usecase.by_id(call.conn, call.organization.id, _id(call))
    documents.announce(call.conn, call.organization.id, "credit_note", note.id, now=call.now)
    (shown,) = render_credit_notes(call.conn, [note])
    url = f"{call.engine.config.base_url}/api/v1/credit_notes/{note.id}/pdf"
    return {"credit_note": msgspec.structs.replace(shown, file_url=url)}


def credit_note_pdf(call: Call) -> Raw:
    """GET /credit_notes/{lago_id}/pdf."""
    note = credit_note_usecase.by_id(call.conn, call.organization.id, _id(call))
    return render_pdf(call.engine, call.conn, call.organization, note)


def render_pdf(engine: Engine, conn: Connection[Any], organization: Organization, note: CreditNote) -> Raw:
    """The credit note as a document; it is typeset when the database is free for others again."""
    document = credit_note_document(conn, note.id)
    printer = printer_of(engine, conn, organization, note.billing_entity_id)
    return pdf_answer(lambda: printer.credit_note(document), note.number)


def replace_metadata(call: Call) -> dict[str, Any]:
    """POST /credit_notes/{lago_id}/metadata: what is not sent is gone."""
    return _set_metadata(call, _to_change(call), sent_metadata(call))


def merge_metadata(call: Call) -> dict[str, Any]:
    """PATCH /credit_notes/{lago_id}/metadata: what is not sent stays."""
    note = _to_change(call)
    return _set_metadata(call, note, {**note.metadata, **sent_metadata(call)})


def delete_metadata(call: Call) -> dict[str, Any]:
    """DELETE /credit_notes/{lago_id}/metadata."""
    return _set_metadata(call, _to_change(call), {})


def delete_metadata_key(call: Call) -> dict[str, Any]:
    """DELETE /credit_notes/{lago_id}/metadata/{key}."""
    note = _to_change(call)
    return _set_metadata(call, note, without_key(note.metadata, call.path["key"]))


def _set_metadata(call: Call, note: CreditNote, metadata: Mapping[str, str | None]) -> dict[str, Any]:
    kept = checked_metadata(metadata)
    credit_note_usecase.update(call.conn, note, refund_status=None, metadata=kept or {}, now=call.now)
    return {"metadata": kept}


def _id(call: Call) -> UUID | None:
    return parse_uuid(call.path["lago_id"])


def _to_change(call: Call) -> CreditNote:
    return credit_note_usecase.to_change(call.conn, call.organization.id, _id(call))


def _shown(call: Call, note: CreditNote) -> dict[str, Any]:
    return {"credit_note": render_credit_notes(call.conn, [note])[0]}


def read_request(fields: Fields, *, with_parts: bool) -> CreditNoteRequest:
    """A note as it is asked for. Raises Invalid, and NotFound for what cannot be a fee."""
    items = _items(fields)
    parts = {
        part: fields.whole(f"{part}_amount_cents") or 0 if with_parts else 0
        for part in ("credit", "refund", "offset")
    }
    reason = fields.choice("reason", objects.REASONS) or "other"
    description = fields.text("description", limit=LONG_TEXT)
    metadata = (read_metadata(fields) or {}) if fields.has("metadata") else {}
    fields.check()
    return CreditNoteRequest(
        invoice_id=fields.uuid("invoice_id"),
        items=items,
        split=CreditSplit(
            credit_cents=parts["credit"], refund_cents=parts["refund"], offset_cents=parts["offset"]
        ),
        reason=reason,
        description=description,
        metadata=metadata,
    )


def _items(fields: Fields) -> dict[UUID, int]:
    """Fee -> amount; a fee that is there twice has the sum."""
    given = fields.given.get("items")
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        fields.refuse("items", "must_be_an_array")
        return {}
    found: dict[UUID, int] = {}
    for item in fields.objects("items") or ():
        fee_id = item.uuid("fee_id")
        amount = item.whole("amount_cents", code="invalid_value")
        if amount is None and "amount_cents" not in fields.errors:
            fields.refuse("amount_cents", "invalid_value")
        if fee_id is None:
            raise NotFound("fee")
        found[fee_id] = found.get(fee_id, 0) + (amount or 0)
    return found


def render_estimate(found: CreditNoteEstimate) -> objects.EstimatedCreditNote:
    """What a note would come to."""
    invoice, amounts, most = found.invoice, found.amounts, found.most
    return objects.EstimatedCreditNote(
        lago_invoice_id=invoice.id,
        invoice_number=invoice.number,
        currency=invoice.currency,
        taxes_amount_cents=amounts.taxes_amount_cents,
        precise_taxes_amount_cents=Number(amounts.precise_taxes_amount_cents),
        taxes_rate=float(amounts.taxes_rate),
        sub_total_excluding_taxes_amount_cents=amounts.sub_total_excluding_taxes_amount_cents,
        max_creditable_amount_cents=most.credit_cents,
        max_refundable_amount_cents=most.refund_cents,
        max_offsettable_amount_cents=most.offset_cents,
        coupons_adjustment_amount_cents=amounts.coupons_cents,
        precise_coupons_adjustment_amount_cents=Number(amounts.coupons_adjustment_amount_cents),
        items=[
            objects.EstimatedItem(lago_fee_id=item.fee.fee_id, amount_cents=item.amount_cents)
            for item in amounts.items
        ],
        applied_taxes=[
            objects.EstimatedTax(
                lago_tax_id=each.tax.id,
                tax_name=each.tax.name,
                tax_code=each.tax.code,
                tax_rate=float(each.tax.rate),
                tax_description=each.tax.description,
                base_amount_cents=each.fees_amount_cents,
                amount_cents=each.amount_cents,
                amount_currency=invoice.currency,
            )
            for each in amounts.applied_taxes
        ],
    )


def render_whole_credit_note(conn: Connection[Any], note_id: UUID) -> objects.CreditNote | None:
    """The note as webhooks carry it; None when there is none."""
    found = credit_notes.by_ids(conn, [note_id]).get(note_id)
    return render_credit_notes(conn, [found])[0] if found else None


def render_credit_notes(conn: Connection[Any], rows: Sequence[CreditNote]) -> list[objects.CreditNote]:
    """Credit notes with their items, in this order."""
    items = credit_notes.items_of(conn, [row.id for row in rows])
    fees = fee_store.by_ids(conn, {item.fee_id for own in items.values() for item in own})
    around = surroundings(conn, list(fees.values()))
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    known = invoices.invoices_by_ids(conn, {row.invoice_id for row in rows})
    codes = issuers(conn, rows)
    return [
        _render(
            row,
            issuer=codes[row.billing_entity_id],
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
    row: CreditNote,
    *,
    issuer: str,
    payer: Customer,
    invoice: StoredInvoice,
    items: list[objects.CreditNoteItem],
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
        coupons_adjustment_amount_cents=row.coupons_cents,
        applied_taxes=[
            objects.CreditNoteAppliedTax(**{**each, "tax_rate": float(each["tax_rate"])})
            for each in row.applied_taxes
        ],
        file_url=None,
        xml_url=None,
        self_billed=payer.is_self_billed,
        error_details=[],
        metadata=row.metadata,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
        billing_entity_code=issuer,
        invoice_number=invoice.number,
        purchase_order_number=invoice.purchase_order_number,
        customer=render_customer(payer),
        items=items,
    )
