"""The invoice's PDF: a document's values as the texts that invoice.typ sets."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from permille.core.money import exact
from permille.core.pricing_unit import SUBUNITS
from permille.out.pdf import texts
from permille.out.pdf.document import InvoiceDocument, Line, LineGroup, PackagePrice, Party, Section
from permille.out.pdf.typesetting import typeset

_STAMPS = {"draft": "DRAFT", "voided": "VOID", "failed": "DRAFT", "pending": "DRAFT"}


def render_invoice(document: InvoiceDocument) -> bytes:
    """The PDF, the same bytes for the same document. Raises UnableToTypeset."""
    return typeset("invoice.typ", _layout(document), dated=document.issuing_date)


def _layout(document: InvoiceDocument) -> dict[str, Any]:
    """What the template reads; every leaf is a text, but for the parts of the date."""
    due_cents, currency = document.total_due_amount_cents, document.currency
    issued = document.issuing_date
    return {
        "title": f"Invoice {document.number}",
        "heading": "Invoice",
        "number": document.number,
        "date": {"year": issued.year, "month": issued.month, "day": issued.day},
        "paper": document.paper,
        "stamp": _STAMPS.get(document.status),
        "issuer": _party(document.issuer),
        "customer": _party(document.customer),
        "imprint": document.imprint,
        "facts": list(_facts(document)),
        "call": f"Due by {texts.day(document.payment_due_date)}" if due_cents > 0 else "Nothing to pay",
        "has-packages": any(isinstance(line.price, PackagePrice) for line in document.lines),
        "sections": [_section(each, currency) for each in document.sections],
        "totals": list(_totals(document)),
        "total-label": "Total due",
        "total": texts.money(due_cents, currency),
        "footer": document.footer,
    }


def _party(party: Party) -> dict[str, Any]:
    return {"name": party.name, "lines": list(party.lines)}


def _facts(document: InvoiceDocument) -> Iterator[tuple[str, str]]:
    yield "Invoice number", document.number
    yield "Issued", texts.day(document.issuing_date)
    yield "Due", texts.day(document.payment_due_date)
    if document.purchase_order_number:
        yield "Purchase order", document.purchase_order_number
    yield "Currency", document.currency


def _section(section: Section, currency: str) -> dict[str, Any]:
    return {
        "title": section.title,
        "period": texts.days(*section.period) if section.period else None,
        "groups": [_group(each, currency) for each in section.groups],
    }


def _group(group: LineGroup, currency: str) -> dict[str, Any]:
    total_cents = sum(line.amount_cents for line in group.lines)
    return {
        "title": group.title,
        "total": texts.money(total_cents, currency) if group.title and len(group.lines) > 1 else None,
        "rows": [_row(line, currency) for line in group.lines],
    }


def _row(line: Line, currency: str) -> dict[str, Any]:
    package = line.price if isinstance(line.price, PackagePrice) else None
    return {
        "description": line.description,
        "note": "; ".join(_notes(line, currency)),
        "units": texts.quantity(line.units),
        "price": _price(line, currency),
        "packages": f"{package.packages:,}" if package else "",
        "amount": texts.money(line.amount_cents, currency),
    }


def _notes(line: Line, currency: str) -> Iterator[str]:
    if line.period:
        yield texts.days(*line.period)
    if isinstance(line.price, PackagePrice) and line.price.free_units:
        yield f"{texts.quantity(line.price.free_units)} {line.unit or 'units'} free"
    if line.in_unit:
        with exact():
            amount = Decimal(line.in_unit.amount_cents) / SUBUNITS
        rate = texts.price(line.in_unit.conversion_rate, currency)
        yield f"{texts.in_unit(amount, line.in_unit.short_name)} at {rate}"


def _price(line: Line, currency: str) -> str:
    """$0.03 per 1,000 tokens begun, or $0.006 per minute."""
    short_name = line.in_unit.short_name if line.in_unit else None
    match line.price:
        case PackagePrice(amount=amount, size=size):
            return f"{texts.price(amount, currency, short_name)} per {size:,} {line.unit or 'units'} begun"
        case price:
            shown = texts.average_price if price.is_average else texts.price
            text = shown(price.amount, currency, short_name)
            return f"{text} per {line.unit.removesuffix('s')}" if line.unit else text


def _totals(document: InvoiceDocument) -> Iterator[tuple[str, str]]:
    """The rows between the lines and what is due."""
    currency = document.currency
    yield "Sub-total", texts.money(document.fees_amount_cents, currency)
    for name, cents in (
        ("Already billed in this period", document.progressive_billing_credit_amount_cents),
        ("Coupons", document.coupons_amount_cents),
    ):
        if cents:
            yield name, texts.money(-cents, currency)
    for tax in document.taxes:
        yield f"{tax.name} ({texts.quantity(tax.rate)} %)", texts.money(tax.amount_cents, currency)
    if not document.taxes:
        yield "Tax", texts.money(0, currency)
    for name, cents in (
        ("Credit notes", document.credit_notes_amount_cents),
        ("Prepaid credits", document.prepaid_credit_amount_cents),
        ("Paid", document.total_paid_amount_cents),
    ):
        if cents:
            yield name, texts.money(-cents, currency)
