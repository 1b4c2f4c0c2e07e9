"""Credits of an invoice: what took something off it, or paid a part of it, as it shows them."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from permille.core.record import Record


class CreditKind(StrEnum):
    """What a credit comes from."""

    INVOICE = "invoice"
    """One at a usage threshold, which has billed the same usage."""
    COUPON = "coupon"
    CREDIT_NOTE = "credit_note"


BEFORE_TAXES = frozenset({CreditKind.INVOICE, CreditKind.COUPON})
"""Kinds that lower what taxes are taken of; others pay the amount with taxes."""


class InvoiceCredit(Record, kw_only=True):
    """A credit of one invoice. `item_id`, `code` and `name` are of what it comes from."""

    id: UUID
    invoice_id: UUID
    kind: CreditKind
    item_id: UUID
    code: str
    name: str
    description: str | None = None
    amount_cents: int
