"""The invoice's PDF: a document's values as the texts that invoice.typ sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from permille.core.money import exact
from permille.core.rating.pricing_unit import SUBUNITS
from permille.core.record import replace
from permille.out.pdf import fonts
from permille.out.pdf.document import InvoiceDocument, Line, LineGroup, Logo, PackagePrice, Party, Section
from permille.out.pdf.language import Language, language_of
from permille.out.pdf.summary import summary_of
from permille.out.pdf.typesetting import template_of, typeset

TEMPLATE = "invoice.typ"
LINES_MAX = 5_000
"""A document of so many takes half a gigabyte and some seconds to set; others are summed up in its last line."""
_STAMPS = {"draft": "draft", "voided": "void", "failed": "draft", "pending": "draft"}
_LABELS = ("from", "bill_to", "description", "quantity", "price", "packages", "amount", "payment_details")


def render_invoice(document: InvoiceDocument, logo: Logo | None = None) -> bytes:
    """The PDF, the same bytes for the same document and logo. Raises UnableToTypeset."""
    layout = _layout(document, language_of(document.locale))
    return typeset(TEMPLATE, layout, dated=document.issuing_date, logo=logo)


def digest_of(document: InvoiceDocument, logo: Logo | None = None) -> bytes:
    """What is the same as long as the PDF is: a digest of all that it says, and of what sets it.

    Nothing is laid out for it: to write a few hundred amounts takes longer than to find a PDF that is kept.
    """
    words = language_of(document.locale).words
    said = [document, words, TEMPLATE, (logo.media_type, logo.content) if logo else None]
    return blake2b(template_of(TEMPLATE) + msgspec.json.encode(said), digest_size=32).digest()


def _layout(document: InvoiceDocument, language: Language) -> dict[str, Any]:
    """What the template reads; every leaf is a text, but for the parts of the date."""
    due_cents, currency = document.total_due_amount_cents, document.currency
    issued, word = document.issuing_date, language.word
    stamp = _STAMPS.get(document.status)
    return {
        "title": f"{word('invoice')} {document.number}",
        "heading": f"{word('invoice')} ({word('self_billing')})"
        if document.is_self_billed
        else word("invoice"),
        "language": language.tag,
        "right-to-left": language.is_right_to_left,
        "fonts": fonts.families(language.words_name, document.customer_country),
        "labels": {key.replace("_", "-"): word(key) for key in _LABELS},
        "page": language.words["page"].replace("{page}", "{pages}").split("{pages}"),
        "number": document.number,
        "date": {"year": issued.year, "month": issued.month, "day": issued.day},
        "paper": document.paper,
        "accent": document.accent,
        "stamp": word(stamp) if stamp else None,
        "issuer": party_texts(document.issuer),
        "customer": party_texts(document.customer),
        "imprint": document.imprint,
        "facts": list(_facts(document, language)),
        "call": _call(document, language),
        "has-packages": any(isinstance(line.price, PackagePrice) for line in document.lines),
        "summary": _summary(document, language),
        "sections": _sections(document.sections, currency, language),
        "totals": list(_totals(document, language)),
        "total-label": word("total_due"),
        "total": language.money(due_cents, currency),
        "parts": [],
        "bank-details": document.bank_details if due_cents > 0 else None,
        "custom-sections": [{"title": each.title, "text": each.text} for each in document.custom_sections],
        "reverse-charge-note": document.reverse_charge_note,
        "footer": document.footer,
    }


def party_texts(party: Party) -> dict[str, Any]:
    """A name and the lines below it."""
    return {"name": party.name, "lines": list(party.lines)}


def _call(document: InvoiceDocument, language: Language) -> str:
    if document.total_due_amount_cents <= 0:
        return language.word("nothing_to_pay")
    if document.net_payment_term == 0:
        return language.word("due_on_receipt")
    return language.word("due_by", date=language.day(document.payment_due_date))


def _facts(document: InvoiceDocument, language: Language) -> Iterator[tuple[str, str]]:
    word, term = language.word, document.net_payment_term
    yield word("number"), document.number
    yield word("issued"), language.day(document.issuing_date)
    yield word("payment_term"), language.number_of_days(term) if term else word("due_on_receipt")
    yield word("due"), language.day(document.payment_due_date)
    if document.purchase_order_number:
        yield word("purchase_order"), document.purchase_order_number
    yield word("currency"), document.currency


def _summary(document: InvoiceDocument, language: Language) -> dict[str, Any] | None:
    """The sums by dimension, where the document is long."""
    found = summary_of(document)
    if found is None:
        return None
    money, currency = language.money, document.currency
    rows = [(each.name, money(each.amount_cents, currency)) for each in found.rows]
    if found.more:
        more = language.word("more", count=language.quantity(Decimal(found.more)))
        rows.append((more, money(found.more_cents, currency)))
    title = language.word("summary_by", name=found.key) if found.key else language.word("summary")
    return {"title": title, "rows": rows}


def _sections(sections: Sequence[Section], currency: str, language: Language) -> list[dict[str, Any]]:
    """As many lines as a document has, and what the others come to."""
    shown: list[dict[str, Any]] = []
    rest: list[int] = []
    left = LINES_MAX
    for section in sections:
        groups = []
        for group in section.groups:
            kept = group.lines[:left]
            left -= len(kept)
            rest += [line.amount_cents for line in group.lines[len(kept) :]]
            if kept:
                groups.append(_group(replace(group, lines=kept), currency, language))
            if rest and kept:
                groups[-1]["total"] = None  # it would leave out what is not shown
        if groups or not rest:
            period = language.days(*section.period) if section.period else None
            shown.append({"title": section.title, "period": period, "groups": groups})
    if rest:
        row = row_of_rest(len(rest), language.money(sum(rest), currency), language)
        shown[-1]["groups"].append({"title": None, "total-label": None, "total": None, "rows": [row]})
    return shown


def row_of_rest(count: int, amount: str, language: Language) -> dict[str, str]:
    """So many lines that are not shown, as one."""
    more = language.word("more", count=language.quantity(Decimal(count)))
    return {"description": more, "note": "", "units": "", "price": "", "packages": "", "amount": amount}


def _group(group: LineGroup, currency: str, language: Language) -> dict[str, Any]:
    total_cents = sum(line.amount_cents for line in group.lines)
    has_total = group.title and len(group.lines) > 1
    return {
        "title": group.title,
        "total-label": language.word("total_of", name=group.title) if group.title else None,
        "total": language.money(total_cents, currency) if has_total else None,
        "rows": [_row(line, currency, language) for line in group.lines],
    }


def _row(line: Line, currency: str, language: Language) -> dict[str, Any]:
    package = line.price if isinstance(line.price, PackagePrice) else None
    return {
        "description": line.description,
        "note": "; ".join(_notes(line, currency, language)),
        "units": language.quantity(line.units),
        "price": _price(line, currency, language),
        "packages": language.quantity(Decimal(package.packages)) if package else "",
        "amount": language.money(line.amount_cents, currency),
    }


def _notes(line: Line, currency: str, language: Language) -> Iterator[str]:
    if line.note:
        yield line.note
    if line.period:
        yield language.days(*line.period)
    if isinstance(line.price, PackagePrice) and line.price.free_units:
        free = language.quantity(line.price.free_units)
        yield language.word("free_units", quantity=free, units=_units(line, language))
    if line.in_unit:
        with exact():
            amount = Decimal(line.in_unit.amount_cents) / SUBUNITS
        rate = language.price(line.in_unit.conversion_rate, currency)
        yield language.word("at_rate", amount=language.in_unit(amount, line.in_unit.short_name), rate=rate)


def _units(line: Line, language: Language) -> str:
    return line.unit or language.word("units")


def _price(line: Line, currency: str, language: Language) -> str:
    """$0.03 per 1,000 tokens begun, or $0.006 per minute."""
    short_name = line.in_unit.short_name if line.in_unit else None
    match line.price:
        case PackagePrice(amount=amount, size=size):
            return language.word(
                "per_package",
                price=language.price(amount, currency, short_name),
                size=language.quantity(Decimal(size)),
                units=_units(line, language),
            )
        case price:
            shown = language.average_price if price.is_average else language.price
            text = shown(price.amount, currency, short_name)
            unit = line.unit.removesuffix("s") if line.unit else None
            return language.word("per_unit", price=text, unit=unit) if unit else text


def _totals(document: InvoiceDocument, language: Language) -> Iterator[tuple[str, str]]:
    """The rows between the lines and what is due."""
    word, currency = language.word, document.currency

    def money(cents: int) -> str:
        return language.money(cents, currency)

    yield word("sub_total"), money(document.fees_amount_cents)
    for key, cents in (
        ("already_billed", document.progressive_billing_credit_amount_cents),
        ("coupons", document.coupons_amount_cents),
    ):
        if cents:
            yield word(key), money(-cents)
    for tax in document.taxes:
        rate, base = language.percent(tax.rate), money(tax.base_cents)
        yield word("tax_on", name=tax.name, rate=rate, base=base), money(tax.amount_cents)
    if not document.taxes:
        yield word("tax"), money(0)
    if document.total_due_amount_cents != document.sub_total_including_taxes_amount_cents:
        yield word("total"), money(document.sub_total_including_taxes_amount_cents)
    for key, cents in (
        ("credit_notes", document.credit_notes_amount_cents),
        ("prepaid_credits", document.prepaid_credit_amount_cents),
        ("paid", document.total_paid_amount_cents),
        ("credit_note", document.offset_amount_cents),
    ):
        if cents:
            yield word(key), money(-cents)
