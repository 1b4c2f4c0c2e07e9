"""The PDF of a credit note."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from permille.core.record import Record
from permille.out.pdf.document import Logo, Tax
from permille.out.pdf.language import Language
from permille.out.pdf.plain import Head, PlainDocument, render_plain


class CreditNoteDocument(Record, kw_only=True):
    """A credit note as it is printed; all amounts are positive."""

    head: Head
    invoice_number: str
    is_void: bool
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

    @property
    def parts(self) -> Iterator[tuple[str, int]]:
        """What becomes of the total: the word for each part, and its amount."""
        named = (
            ("credited", self.credit_cents),
            ("refunded", self.refund_cents),
            ("taken_off", self.offset_cents),
        )
        return ((key, cents) for key, cents in named if cents)


def render_credit_note(document: CreditNoteDocument, logo: Logo | None = None) -> bytes:
    """The PDF, the same bytes for the same document and logo. Raises UnableToTypeset."""
    word = document.head.language.word
    plain = PlainDocument(
        head=document.head,
        heading=word("credit_note"),
        stamp=word("void") if document.is_void else None,
        facts=[(word("on_invoice"), document.invoice_number)],
        call=document.description or "",
        title=document.invoice_number,
        rows=document.lines,
        totals=list(_totals(document, document.head.language)),
        total_cents=document.total_cents,
        parts=[(word(key), cents) for key, cents in document.parts],
    )
    return render_plain(plain, logo)


def _totals(document: CreditNoteDocument, language: Language) -> Iterator[tuple[str, int]]:
    """The rows between the lines and the total, as an invoice has them."""
    word = language.word
    yield word("sub_total"), sum(cents for _, cents in document.lines)
    if document.coupons_cents:
        yield word("coupons"), -document.coupons_cents
    for tax in document.taxes:
        base = language.money(tax.base_cents, document.head.currency)
        yield word("tax_on", name=tax.name, rate=language.percent(tax.rate), base=base), tax.amount_cents
    if not document.taxes:
        yield word("tax"), 0
