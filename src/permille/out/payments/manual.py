"""Payment without a provider: customers pay by themselves, and somebody records it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from permille.core.errors import NotFound
from permille.core.invoice.payment import PaymentStatus
from permille.out.payments.provider import Collection, Outcome


class ManualProvider:
    """Nothing is collected: what is due waits until its payment is recorded."""

    name = "manual"

    def collect(self, wanted: Collection) -> Outcome:
        return Outcome(
            id=wanted.id,
            payment_status=PaymentStatus.FAILED,
            status="no_provider",
            error_code="customer_must_have_payment_provider",
        )

    def refund(self, wanted: Collection) -> Outcome:
        """Somebody transfers it, and sets the credit note's refund status."""
        return Outcome(id=wanted.id, payment_status=PaymentStatus.PENDING, status="by_hand")

    def read_report(self, headers: Mapping[str, str], body: bytes) -> Sequence[Outcome]:
        del headers, body
        raise NotFound("payment_provider")


MANUAL = ManualProvider()
