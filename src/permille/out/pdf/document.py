"""What an invoice says on paper, before it is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from permille.core.record import Record


class Party(Record, kw_only=True):
    """Who issues the invoice, or who gets it: a name and the lines below it."""

    name: str
    lines: tuple[str, ...]


class UnitPrice(Record, kw_only=True):
    """The price of one unit in major units; `is_average` when tiers or percentages made it."""

    amount: Decimal
    is_average: bool = False


class PackagePrice(Record, kw_only=True):
    """The price in major units of each package that was begun, and how many were."""

    amount: Decimal
    size: int
    packages: int
    free_units: Decimal


class InUnit(Record, kw_only=True):
    """What a line was priced in instead of the currency, and what it came to in hundredths of that."""

    short_name: str
    amount_cents: int
    conversion_rate: Decimal


class Dimension(Record, kw_only=True):
    """A dimension that a line was priced or grouped by, e.g. model, and the line's value."""

    key: str
    value: str


class Line(Record, kw_only=True):
    """One fee. `unit` is a plural, e.g. tokens, None when the units have no name of their own."""

    description: str
    units: Decimal
    unit: str | None
    price: UnitPrice | PackagePrice
    amount_cents: int
    period: tuple[date, date] | None
    """First and last day, where they are not those of the section."""
    note: str | None = None
    """What the seller says of it besides its name."""
    in_unit: InUnit | None = None
    """Where there is one, the price is in it."""
    dimension: Dimension | None = None
    """What the summary of a long invoice counts it to; None for what has no dimension."""


class LineGroup(Record, kw_only=True):
    """The lines of one charge: a row for each filter and group. Without a title there is no heading."""

    title: str | None
    lines: tuple[Line, ...]


class Section(Record, kw_only=True):
    """What one subscription brings; `period` has its first and last day."""

    title: str
    period: tuple[date, date] | None
    groups: tuple[LineGroup, ...]


class Tax(Record, kw_only=True):
    name: str
    rate: Decimal
    """In percent."""
    base_cents: int
    """What the tax was taken of."""
    amount_cents: int


class CustomSection(Record, kw_only=True):
    """A text of the seller's own, with a heading."""

    title: str | None
    text: str | None


class Logo(Record, kw_only=True):
    """A picture that Typst can set: image/png or image/svg+xml."""

    content: bytes
    media_type: str


ACCENT = "#1f4e79"
"""The colour of headings where the billing entity has none of its own."""


class InvoiceDocument(Record, kw_only=True):
    """An invoice as it is printed. Credits are positive numbers that are taken off."""

    number: str
    status: str
    locale: str
    currency: str
    issuing_date: date
    payment_due_date: date
    net_payment_term: int
    """In days; 0 is due on receipt."""
    purchase_order_number: str | None
    issuer: Party
    customer: Party
    imprint: str
    """The issuer in one line, at the foot of every page."""
    footer: str | None
    bank_details: str | None
    custom_sections: tuple[CustomSection, ...]
    reverse_charge_note: str | None
    """None where it does not apply."""
    customer_country: str | None
    paper: str
    """a4 or us-letter."""
    sections: tuple[Section, ...]
    fees_amount_cents: int
    progressive_billing_credit_amount_cents: int
    coupons_amount_cents: int
    taxes: tuple[Tax, ...]
    credit_notes_amount_cents: int
    prepaid_credit_amount_cents: int
    total_amount_cents: int
    total_paid_amount_cents: int
    offset_amount_cents: int = 0
    """What its own credit notes took off what is due."""
    accent: str = ACCENT
    is_self_billed: bool = False
    """Whether the one who pays has made it, in the name of the issuer."""

    @property
    def lines(self) -> Iterator[Line]:
        """Every line, in order."""
        return (line for section in self.sections for group in section.groups for line in group.lines)

    @property
    def texts(self) -> Iterator[str]:
        """What users named themselves, whose characters may have no font."""
        for party in (self.issuer, self.customer):
            yield from (party.name, *party.lines)
        notes = (self.imprint, self.footer, self.bank_details, self.reverse_charge_note)
        yield from (text for text in (*notes, self.number, self.purchase_order_number) if text)
        yield from (tax.name for tax in self.taxes)
        yield from (text for each in self.custom_sections for text in (each.title, each.text) if text)
        for section in self.sections:
            yield section.title
            yield from (group.title for group in section.groups if group.title)
        for line in self.lines:
            short_name = line.in_unit.short_name if line.in_unit else ""
            yield f"{line.description}{line.unit or ''}{line.note or ''}{short_name}"

    @property
    def sub_total_including_taxes_amount_cents(self) -> int:
        """What it comes to, before anything has paid for it."""
        return self.total_amount_cents + self.credit_notes_amount_cents + self.prepaid_credit_amount_cents

    @property
    def total_due_amount_cents(self) -> int:
        """What is still to be paid; nothing of a voided invoice."""
        if self.status == "voided":
            return 0
        return self.total_amount_cents - self.total_paid_amount_cents - self.offset_amount_cents
