"""Credit notes: the list, one with what is done with it, and a new one on an invoice with its estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from permille.api.credit_notes import read_request, read_search, render_credit_notes, render_pdf
from permille.api.http import Raw
from permille.api.objects.credit_note import CREDIT_STATUSES, REASONS
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import NotFound, Refusal
from permille.core.invoice.draft import InvoiceStatus
from permille.store import billing_entities, credit_notes as store, fees as fee_store
from permille.store.credit_notes import CreditNote
from permille.store.invoices import StoredInvoice
from permille.usecases import credit_notes
from permille.usecases.credit_notes import CreditNoteEstimate
from permille.usecases.invoices import single
from permille.usecases.invoices.billed import billed_invoice
from permille.web.charge_form import amount_text, to_cents
from permille.web.forms import problems_of
from permille.web.visit import Done, HtmlPage, Problems, Visit

FILTERS = ("search_term", "credit_status", "external_customer_id")
PARTS = ("credit", "refund", "offset")
OF_FEE = "fee-"


def listing(visit: Visit) -> HtmlPage:
    """GET /app/credit-notes."""
    page = visit.page()
    found, total = store.listing(
        visit.conn, visit.here.id, read_search(visit.query), limit=page.per_page, offset=page.offset
    )
    context = {
        "notes": render_credit_notes(visit.conn, found),
        "meta": page.meta(total),
        "filters": {name: visit.query[name] for name in FILTERS if visit.query.get(name)},
        "statuses": CREDIT_STATUSES,
    }
    return HtmlPage(template="credit_notes.html", context=context)


def detail(visit: Visit) -> HtmlPage:
    """GET /app/credit-notes/{lago_id}."""
    note = credit_notes.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    (shown,) = render_credit_notes(visit.conn, [note])
    issuer = billing_entities.by_ids(visit.conn, [note.billing_entity_id])[note.billing_entity_id].name
    return HtmlPage(template="credit_note.html", context={"note": shown, "issuer": issuer})


def pdf(visit: Visit) -> Raw:
    """GET /app/credit-notes/{lago_id}/pdf."""
    note = credit_notes.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    return render_pdf(visit.engine, visit.conn, visit.here, note)


def void(visit: Visit) -> Done:
    """POST /app/credit-notes/{lago_id}/void."""
    note = credit_notes.void(visit.conn, _to_change(visit), now=visit.now)
    return _done("voided credit note", note)


def refunded(visit: Visit) -> Done:
    """POST /app/credit-notes/{lago_id}/refunded: the refund was paid."""
    note = credit_notes.update(
        visit.conn, _to_change(visit), refund_status="succeeded", metadata=None, now=visit.now
    )
    return _done("recorded refund of credit note", note)


def _to_change(visit: Visit) -> CreditNote:
    return credit_notes.to_change(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))


def _done(action: str, note: CreditNote) -> Done:
    return Done(
        action=action,
        subject=note.number,
        to=f"/app/credit-notes/{note.id}?said=saved",
        details={"total_amount_cents": note.total_amount_cents, "currency": note.currency},
    )


def blank(visit: Visit) -> HtmlPage:
    """GET /app/credit-invoice/{lago_id}: what may come back, and with amounts in the address what that comes to."""
    invoice = _invoice(visit)
    billed = billed_invoice(visit.conn, invoice)
    left = {each.fee.fee_id: each.left_cents for each in billed.fees}
    fees = fee_store.of_invoices(visit.conn, [invoice.id])[invoice.id]
    typed = _typed(visit)
    estimate, problems = _estimate(visit, invoice) if typed else (None, {})
    context = {
        "invoice": invoice,
        "lines": [
            {
                "name": fee.invoice_display_name or fee.fee_type.replace("_", " "),
                "from_at": fee.from_at,
                "field": f"{OF_FEE}{fee.id}",
                "left_cents": left[fee.id],
                "typed": typed.get(fee.id, "" if typed else amount_text(left[fee.id], invoice.currency)),
            }
            for fee in fees
            if left[fee.id]
        ],
        "estimate": estimate,
        "most": {
            part: amount_text(getattr(estimate.most, f"{part}_cents"), invoice.currency) for part in PARTS
        }
        if estimate
        else {},
        "reasons": [(each, each.replace("_", " ").capitalize()) for each in REASONS],
        "problems": {**problems, **visit.problems},
    }
    return HtmlPage(template="credit_note_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/credit-invoice/{lago_id}: the amounts of fees are in the address."""
    invoice = _invoice(visit)
    form = visit.form
    parts = {f"{part}_amount_cents": to_cents(form.get(part) or "0", invoice.currency) for part in PARTS}
    body = {
        **_body(visit, invoice),
        **parts,
        "reason": form.get("reason"),
        "description": form.get("description") or None,
    }
    note = credit_notes.create(
        visit.conn, visit.here.id, read_request(Fields(body), with_parts=True), now=visit.now
    )
    return _done("issued credit note", note)


def _invoice(visit: Visit) -> StoredInvoice:
    """The final invoice of the address. Raises NotFound."""
    invoice = single.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    if invoice.status not in (InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED):
        raise NotFound("invoice")
    return invoice


def _typed(visit: Visit) -> dict[UUID, str]:
    """Fee -> the amount in the address, as it was typed."""
    names = {name: parse_uuid(name.removeprefix(OF_FEE)) for name in visit.query if name.startswith(OF_FEE)}
    return {fee_id: visit.query[name].strip() for name, fee_id in names.items() if fee_id is not None}


def _body(visit: Visit, invoice: StoredInvoice) -> Mapping[str, Any]:
    items = [
        {"fee_id": str(fee_id), "amount_cents": to_cents(text, invoice.currency)}
        for fee_id, text in _typed(visit).items()
        if text and text != "0"
    ]
    return {"invoice_id": str(invoice.id), "items": items}


def _estimate(visit: Visit, invoice: StoredInvoice) -> tuple[CreditNoteEstimate | None, Problems]:
    """What the amounts in the address come to, or what is wrong with them."""
    try:
        request = read_request(Fields(_body(visit, invoice)), with_parts=False)
        return credit_notes.estimate(visit.conn, visit.here.id, request), {}
    except Refusal as refusal:
        return None, problems_of(refusal)
