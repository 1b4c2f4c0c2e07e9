"""The PDF of a payment's receipt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from permille.core.record import Record
from permille.out.pdf.document import Logo
from permille.out.pdf.plain import Head, PlainDocument, render_plain


class ReceiptDocument(Record, kw_only=True):
    """A receipt as it is printed."""

    head: Head
    paid_on: date
    reference: str | None
    paid: Sequence[tuple[str, int]]
    """The number of each invoice, and what was paid of it."""

    @property
    def total_cents(self) -> int:
        return sum(cents for _, cents in self.paid)


def render_receipt(document: ReceiptDocument, logo: Logo | None = None) -> bytes:
    """The PDF, the same bytes for the same document and logo. Raises UnableToTypeset."""
    language = document.head.language
    word = language.word
    reference = [(word("reference"), document.reference)] if document.reference else []
    plain = PlainDocument(
        head=document.head,
        heading=word("receipt"),
        facts=[(word("paid_on"), language.day(document.paid_on)), *reference],
        title=word("paid"),
        rows=[(f"{word('invoice')} {number}", cents) for number, cents in document.paid],
        total_cents=document.total_cents,
    )
    return render_plain(plain, logo)
