"""Documents without quantities and prices, such as credit notes and receipts: rows with amounts, and a total."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from permille.core.record import Record
from permille.out.pdf import fonts
from permille.out.pdf.document import Logo, Party
from permille.out.pdf.invoice import LINES_MAX, TEMPLATE, party_texts, row_of_rest
from permille.out.pdf.language import Language, language_of
from permille.out.pdf.typesetting import typeset

_LABELS = ("from", "bill_to", "description", "amount", "payment_details")
_WITHOUT = ("quantity", "price", "packages")
"""Columns of an invoice that these documents have nothing for."""


class Head(Record, kw_only=True):
    """What every such document says of itself and its parties."""

    number: str
    locale: str
    currency: str
    issuing_date: date
    issuer: Party
    customer: Party
    imprint: str
    footer: str | None
    customer_country: str | None
    paper: str
    accent: str

    @property
    def language(self) -> Language:
        return language_of(self.locale)


class PlainDocument(Record, kw_only=True):
    """A document in its own language; amounts are in cents."""

    head: Head
    heading: str
    stamp: str | None = None
    facts: Sequence[tuple[str, str]]
    """Beside the parties, besides number, date and currency."""
    call: str = ""
    title: str
    """The heading of the rows."""
    rows: Sequence[tuple[str, int]]
    totals: Sequence[tuple[str, int]] = ()
    """The rows between those and the total."""
    total_cents: int
    parts: Sequence[tuple[str, int]] = ()
    """What becomes of the total: below it, as they are in it."""


def render_plain(document: PlainDocument, logo: Logo | None = None) -> bytes:
    """The PDF, the same bytes for the same document and logo. Raises UnableToTypeset."""
    return typeset(TEMPLATE, _layout(document), dated=document.head.issuing_date, logo=logo)


def _layout(document: PlainDocument) -> dict[str, Any]:
    """What the template reads; every leaf is a text, but for the parts of the date."""
    head, language = document.head, document.head.language
    issued, word = head.issuing_date, language.word
    labels = {key: word(key) for key in _LABELS} | dict.fromkeys(_WITHOUT, "")

    def money(cents: int) -> str:
        return language.money(cents, head.currency)

    rows = [
        {"description": name, "note": "", "units": "", "price": "", "packages": "", "amount": money(cents)}
        for name, cents in document.rows[:LINES_MAX]
    ]
    if rest := [cents for _, cents in document.rows[LINES_MAX:]]:
        rows.append(row_of_rest(len(rest), money(sum(rest)), language))
    group = {"title": None, "total-label": None, "total": None, "rows": rows}
    return {
        "title": f"{document.heading} {head.number}",
        "heading": document.heading,
        "language": language.tag,
        "right-to-left": language.is_right_to_left,
        "fonts": fonts.families(language.words_name, head.customer_country),
        "labels": {key.replace("_", "-"): text for key, text in labels.items()},
        "page": language.words["page"].replace("{page}", "{pages}").split("{pages}"),
        "number": head.number,
        "date": {"year": issued.year, "month": issued.month, "day": issued.day},
        "paper": head.paper,
        "accent": head.accent,
        "stamp": document.stamp,
        "issuer": party_texts(head.issuer),
        "customer": party_texts(head.customer),
        "imprint": head.imprint,
        "facts": [
            (word("document_number"), head.number),
            (word("document_date"), language.day(issued)),
            *document.facts,
            (word("currency"), head.currency),
        ],
        "call": document.call,
        "has-packages": False,
        "summary": None,
        "sections": [{"title": document.title, "period": None, "groups": [group]}],
        "totals": [(label, money(cents)) for label, cents in document.totals],
        "total-label": document.heading,
        "total": money(document.total_cents),
        "parts": [(label, money(cents)) for label, cents in document.parts],
        "bank-details": None,
        "reverse-charge-note": None,
        "custom-sections": [],
        "footer": head.footer,
    }
