"""What a payment provider can do. A further one is a module of its own, and the customers who pay by it name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from permille.core.invoice.payment import PaymentStatus
from permille.core.record import Record


class Collection(Record, kw_only=True):
    """An amount that a customer is to pay, or to get back, in the currency's smallest unit.

    The id is that of the payment or of the credit note: asked for twice, it is done once.
    """

    id: UUID
    external_customer_id: str
    amount_cents: int
    currency: str


class Outcome(Record, kw_only=True):
    """What a provider says of a payment or of a refund."""

    id: UUID
    payment_status: PaymentStatus
    status: str
    """The same in the provider's words."""
    error_code: str | None = None


class PaymentProvider(Protocol):
    """Collects and refunds payments. What takes its time is reported later, by a request of the provider."""

    name: str

    def collect(self, wanted: Collection) -> Outcome:
        """Ask the customer's means of payment for an amount."""

    def refund(self, wanted: Collection) -> Outcome:
        """Give an amount back."""

    def read_report(self, headers: Mapping[str, str], body: bytes) -> Sequence[Outcome]:
        """What a request of the provider reports. Raises Refusal when it is not signed by the provider."""
