"""The PDF of a credit note: its values as the texts that the template of invoices sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from permille.out.pdf import fonts
from permille.out.pdf.document import Logo, Party, Tax
from permille.out.pdf.invoice import TEMPLATE, party_texts
from permille.out.pdf.language import Language, language_of
from permille.out.pdf.typesetting import typeset

_LABELS = ("from", "bill_to", "description", "amount", "payment_details")
_WITHOUT = ("quantity", "price", "packages")
"""Columns of an invoice that a credit note has nothing for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteDocument:
    """A credit note as it is printed; all amounts are positive."""

    number: str
    invoice_number: str
    is_void: bool
    locale: str
    currency: str
    issuing_date: date
    issuer: Party
    customer: Party
    imprint: str
    footer: str | None
    customer_country: str | None
    paper: str
    description: str | None
    lines: Sequence[tuple[str, int]]
    """What comes back, and its amount before coupons and taxes."""
    coupons_cents: int
    taxes: Sequence[Tax]
    credit_cents: int
    refund_cents: int
    offset_cents: int

    @property
    def total_cents(self) -> int:
        return self.credit_cents + self.refund_cents + self.offset_cents


def render_credit_note(document: CreditNoteDocument, logo: Logo | None = None) -> bytes:
    """The PDF, the same bytes for the same document and logo. Raises UnableToTypeset."""
    layout = _layout(document, language_of(document.locale))
    return typeset(TEMPLATE, layout, dated=document.issuing_date, logo=logo)


def _layout(document: CreditNoteDocument, language: Language) -> dict[str, Any]:
    """What the template reads; every leaf is a text, but for the parts of the date."""
    issued, word = document.issuing_date, language.word
    labels = {key: word(key) for key in _LABELS} | dict.fromkeys(_WITHOUT, "")
    return {
        "title": f"{word('credit_note')} {document.number}",
        "heading": word("credit_note"),
        "language": language.tag,
        "right-to-left": language.is_right_to_left,
        "fonts": fonts.families(language.words_name, document.customer_country),
        "labels": {key.replace("_", "-"): text for key, text in labels.items()},
        "page": language.words["page"].replace("{page}", "{pages}").split("{pages}"),
        "number": document.number,
        "date": {"year": issued.year, "month": issued.month, "day": issued.day},
        "paper": document.paper,
        "stamp": word("void") if document.is_void else None,
        "issuer": party_texts(document.issuer),
        "customer": party_texts(document.customer),
        "imprint": document.imprint,
        "facts": [
            (word("number"), document.number),
            (word("issued"), language.day(issued)),
            (word("on_invoice"), document.invoice_number),
            (word("currency"), document.currency),
        ],
        "call": document.description or "",
        "has-packages": False,
        "summary": None,
        "sections": [_section(document, language)],
        "totals": list(_totals(document, language)),
        "total-label": word("credit_note"),
        "total": language.money(document.total_cents, document.currency),
        "bank-details": None,
        "reverse-charge-note": None,
        "footer": document.footer,
    }


def _section(document: CreditNoteDocument, language: Language) -> dict[str, Any]:
    rows = [
        {
            "description": name,
            "note": "",
            "units": "",
            "price": "",
            "packages": "",
            "amount": language.money(cents, document.currency),
        }
        for name, cents in document.lines
    ]
    group = {"title": None, "total-label": None, "total": None, "rows": rows}
    return {"title": document.invoice_number, "period": None, "groups": [group]}


def _totals(document: CreditNoteDocument, language: Language) -> Iterator[tuple[str, str]]:
    """The rows between the lines and the total: coupons and taxes, then the parts of the total."""
    word, currency = language.word, document.currency
    if document.coupons_cents:
        yield word("coupons"), language.money(-document.coupons_cents, currency)
    for tax in document.taxes:
        rate, base = language.percent(tax.rate), language.money(tax.base_cents, currency)
        yield word("tax_on", name=tax.name, rate=rate, base=base), language.money(tax.amount_cents, currency)
    for key, cents in (
        ("credited", document.credit_cents),
        ("refunded", document.refund_cents),
        ("taken_off", document.offset_cents),
    ):
        if cents:
            yield word(key), language.money(cents, currency)
