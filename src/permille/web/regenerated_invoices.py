"""A voided invoice that is made again: its fees, each to change or to leave out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from permille.api.regenerated_invoices import read_fee_changes
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import NotFound
from permille.core.invoice.draft import InvoiceStatus
from permille.core.money import decimal_text, minor
from permille.store import fees as fee_store
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices import regenerating, single
from permille.web.typed_number import number_or_none, plain_number
from permille.web.visit import Done, Form, HtmlPage, Visit


def blank(visit: Visit) -> HtmlPage:
    """GET /app/regenerate-invoice/{lago_id}."""
    invoice = _voided(visit)
    lines = [
        {
            "id": fee.id,
            "name": fee.invoice_display_name or fee.fee_type.replace("_", " "),
            "from_at": fee.from_at,
            "units": decimal_text(fee.units),
            "cents": fee.amount_cents,
        }
        for fee in _fees(visit, invoice)
    ]
    return HtmlPage(template="regenerate_form.html", context={"invoice": invoice, "lines": lines})


def create(visit: Visit) -> Done:
    """POST /app/regenerate-invoice/{lago_id}."""
    invoice = _voided(visit)
    said = [_said(fee, words) for fee in _fees(visit, invoice) if (words := _words(visit.form, fee))]
    changes, _ = read_fee_changes(Fields({"fees": said}))
    made = regenerating.regenerate(visit.conn, invoice, changes=changes, now=visit.now)
    return Done(
        action="regenerated invoice",
        subject=made.number,
        to=f"/app/invoices/{made.id}?said=created",
        details={
            "voided": invoice.number,
            "total_amount_cents": made.total_amount_cents,
            "currency": made.currency,
        },
    )


def _voided(visit: Visit) -> StoredInvoice:
    """The voided invoice of the address. Raises NotFound."""
    invoice = single.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    if invoice.status is not InvoiceStatus.VOIDED:
        raise NotFound("invoice")
    return invoice


def _fees(visit: Visit, invoice: StoredInvoice) -> list[StoredFee]:
    return fee_store.of_invoices(visit.conn, [invoice.id])[invoice.id]


def _words(form: Form, fee: StoredFee) -> dict[str, str]:
    """What was typed for the fee, without what is as it was."""
    names = ("units", "price", "name", "remove")
    typed = {name: form.get(f"{name}-{fee.id}") for name in names}
    if number_or_none(typed["units"]) == fee.units:
        del typed["units"]
    return {name: text for name, text in typed.items() if text}


def _said(fee: StoredFee, words: dict[str, str]) -> dict[str, Any]:
    """The change as the API takes it."""
    return {"id": str(fee.id), **dict(_fields(fee, words))}


def _fields(fee: StoredFee, words: dict[str, str]) -> Iterator[tuple[str, Any]]:
    if "units" in words:
        yield "units", plain_number(words["units"])
    if "price" in words:
        price = number_or_none(words["price"])
        yield (
            "unit_amount_cents",
            words["price"] if price is None else f"{minor(price, fee.amount_currency):f}",
        )
    if "name" in words:
        yield "invoice_display_name", words["name"]
    if "remove" in words:
        yield "remove", True
