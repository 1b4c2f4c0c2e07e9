"""Payments, their receipts, and requests to pay several invoices together."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    ExternalCustomerId,
    Id,
    Input,
    instant_of,
    one_of,
    says,
)
from permille.api.objects.customer import Customer
from permille.api.objects.invoice import Invoice
from permille.core.invoice.payment import PayableType, PaymentStatus

REQUEST_STATUSES = (PaymentStatus.PENDING, PaymentStatus.SUCCEEDED, PaymentStatus.FAILED)
NoProvider = Annotated[None, says("Always null: no payment provider is built yet.")]


class NextAction(Answer):
    """Always empty: kept for clients of Lago's API."""


class Payment(Answer):
    """A payment of an invoice, or of a part of it."""

    lago_id: Id
    lago_customer_id: Annotated[UUID, says("Who paid.")]
    external_customer_id: ExternalCustomerId
    invoice_ids: Annotated[list[UUID], says("The invoices that it pays.")]
    invoice_numbers: Annotated[list[str], says("Their numbers.")]
    lago_payable_id: Annotated[UUID, says("What it is for.")]
    payable_type: Annotated[str, one_of(*PayableType, says="What that is.")]
    amount_cents: Annotated[int, says("The amount, in the currency's smallest unit.")]
    amount_currency: Currency
    status: Annotated[str, says("What became of it, in the provider's words.")]
    payment_status: Annotated[str, one_of(*PaymentStatus, says="What became of it.")]
    type: Annotated[str, one_of("manual", "provider", says="Whether somebody recorded it.")]
    reference: Annotated[str | None, says("Your reference of it.", example="transfer 4711")]
    payment_provider_code: NoProvider
    payment_provider_type: NoProvider
    external_payment_id: NoProvider
    provider_payment_id: NoProvider
    provider_customer_id: NoProvider
    payment_method_id: NoProvider
    next_action: Annotated[NextAction, says("Always empty: kept for clients of Lago's API.")]
    created_at: Annotated[str, instant_of("When it was paid.")]


class PaymentInput(Input):
    """A payment to record."""

    invoice_id: Annotated[str, says("The invoice, by lago_id.")]
    amount_cents: Annotated[int, says("At most what is due, in the currency's smallest unit.")]
    reference: Annotated[str, says("Your reference of it, 40 characters at most.")]
    paid_at: Annotated[str, instant_of("When it was paid; by default now.")]


class PaymentReceipt(Answer):
    """The receipt of a payment."""

    lago_id: Id
    number: Annotated[str, says("Number of the receipt.", example="ACM-001-002")]
    payment: Annotated[Payment, says("The payment.")]
    created_at: CreatedAt
    file_url: Annotated[
        str | None, says("Where its PDF is; null in webhooks, but for `payment_receipt.generated`.")
    ]
    xml_url: Annotated[None, says("Always null: kept for clients of Lago's API.")]


class PaymentRequest(Answer):
    """A request to pay several overdue invoices together."""

    lago_id: Id
    email: Annotated[str | None, says("Who is asked.")]
    amount_cents: Annotated[int, says("What was due of its invoices, in the currency's smallest unit.")]
    amount_currency: Currency
    payment_status: Annotated[str, one_of(*REQUEST_STATUSES, says="Whether all its invoices are paid.")]
    created_at: CreatedAt
    customer: Annotated[Customer, says("Who is to pay.")]
    invoices: Annotated[list[Invoice], says("The invoices.")]


class PaymentRequestInput(Input):
    """A request to make."""

    external_customer_id: ExternalCustomerId
    email: Annotated[str, says("Who is asked; by default the customer's own address.")]
    lago_invoice_ids: Annotated[list[str], says("Overdue invoices of the customer, by lago_id.")]


class CustomerPaymentMethod(Answer):
    """A customer's means of payment with a provider. There are none as long as there is no provider."""

    lago_id: Id
    is_default: Annotated[bool, says("Whether it is used unless another is named.")]
    payment_provider_code: Annotated[str | None, says("Code of the provider.")]
    payment_provider_name: Annotated[str | None, says("Name of the provider.")]
    payment_provider_type: Annotated[str, says("Kind of provider.")]
    provider_method_id: Annotated[str, says("The provider's identifier of it.")]
    created_at: CreatedAt
