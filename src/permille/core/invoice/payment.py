"""What payments pay of invoices, and which invoices may be requested together.

Source: semantics-billing.md sections 8.3 and 8.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from permille.core.record import Record


class PaymentStatus(StrEnum):
    """What became of a payment, or of the payment of an invoice, a fee or a request."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUNDED = "refunded"
    """Only a fee's."""


class PayableType(StrEnum):
    """What a payment is for, as the API calls it."""

    INVOICE = "Invoice"
    REQUEST = "PaymentRequest"


class Due(Record, kw_only=True):
    """What is due of a final invoice, in the smallest unit of its currency."""

    invoice_id: UUID
    amount_cents: int
    currency: str
    billing_entity_id: UUID
    is_overdue: bool


def due_cents(total_cents: int, *, paid_cents: int, offset_cents: int) -> int:
    """What is still to be paid of an invoice, less what its own credit notes took off it."""
    return total_cents - paid_cents - offset_cents


def amount_problem(amount_cents: int, *, due_cents: int, is_whole: bool) -> str | None:
    """Why an invoice cannot be paid with this amount; `is_whole`: it is paid at once or not at all."""
    if amount_cents > due_cents:
        return "value_is_out_of_range"
    if is_whole and amount_cents != due_cents:
        return "invalid_amount"
    return None


def request_problem(dues: Sequence[Due]) -> str | None:
    """Why these invoices cannot be requested together."""
    if not dues or not all(due.is_overdue for due in dues):
        return "invoices_not_overdue"
    if len({due.currency for due in dues}) > 1:
        return "invoices_have_different_currencies"
    if len({due.billing_entity_id for due in dues}) > 1:
        return "invoices_have_different_billing_entities"
    return None
