"""Credit notes: what comes back of an invoice."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    EmptyList,
    Id,
    Input,
    Metadata,
    Number,
    UpdatedAt,
    one_of,
    says,
    text_of_number,
)
from permille.api.objects.customer import Customer
from permille.api.objects.fee import Fee
from permille.api.objects.tax import AppliedTax


class CreditNoteAppliedTax(AppliedTax):
    """A tax on a credit note."""

    lago_credit_note_id: Annotated[str, says("The credit note.")]
    base_amount_cents: Annotated[int, says("The amount before taxes that this tax applies to.")]


CREDIT_STATUSES = ("available", "consumed", "voided")
REFUND_STATUSES = ("pending", "succeeded", "failed")
REASONS = (
    "duplicated_charge",
    "product_unsatisfactory",
    "order_change",
    "order_cancellation",
    "fraudulent_charge",
    "other",
)
CouponsAdjustment = Annotated[int, says("The items' part of the discounts, which does not come back.")]


class CreditNoteItem(Answer):
    """What of a fee comes back."""

    lago_id: Id
    amount_cents: Annotated[int, says("Amount before taxes, in the currency's smallest unit.")]
    precise_amount_cents: Annotated[str, text_of_number("The same, not rounded.")]
    amount_currency: Currency
    fee: Annotated[Fee, says("The fee.")]


class CreditNote(Answer):
    """What comes back of an invoice, as credit for later invoices, as a refund, or off what is due on it."""

    lago_id: Id
    sequential_id: Annotated[int, says("Number among the invoice's credit notes.")]
    number: Annotated[str, says("Number of the credit note.", example="ACM-0001-001-CN001")]
    lago_invoice_id: Annotated[UUID, says("The invoice.")]
    issuing_date: Annotated[date, says("Date of the credit note.")]
    credit_status: Annotated[
        str | None, one_of(*CREDIT_STATUSES, None, says="Whether there is credit left; null without credit.")
    ]
    refund_status: Annotated[
        str | None, one_of(*REFUND_STATUSES, None, says="Whether the refund was paid; null without one.")
    ]
    reason: Annotated[str, one_of(*REASONS, says="Why it was issued.")]
    description: Annotated[str | None, says("Description.")]
    currency: Currency
    total_amount_cents: Annotated[int, says("Amount with taxes, in the currency's smallest unit.")]
    precise_total_amount_cents: Annotated[str, text_of_number("The same, not rounded.")]
    taxes_amount_cents: Annotated[int, says("Taxes, in the currency's smallest unit.")]
    precise_taxes_amount_cents: Annotated[str, text_of_number("The same, not rounded.")]
    taxes_rate: Annotated[float, says("Sum of the tax percentages.")]
    sub_total_excluding_taxes_amount_cents: Annotated[int, says("Amount before taxes.")]
    balance_amount_cents: Annotated[int, says("Credit that is left.")]
    credit_amount_cents: Annotated[int, says("What is credited to later invoices.")]
    refund_amount_cents: Annotated[int, says("What is refunded.")]
    offset_amount_cents: Annotated[int, says("What is taken off the invoice itself.")]
    coupons_adjustment_amount_cents: CouponsAdjustment
    applied_taxes: Annotated[list[CreditNoteAppliedTax], says("Taxes on it.")]
    file_url: Annotated[
        str | None, says("Address of the PDF; in the answer to a download and in the webhook of it alone.")
    ]
    xml_url: Annotated[None, says("Always null: kept for clients of Lago's API.")]
    self_billed: Annotated[bool, says("Whether it is issued in a partner's name.")]
    error_details: EmptyList
    metadata: Metadata
    created_at: CreatedAt
    updated_at: UpdatedAt
    billing_entity_code: Annotated[str, says("Code of the billing entity that issues it.")]
    invoice_number: Annotated[str, says("Number of the invoice.")]
    purchase_order_number: Annotated[str | None, says("The customer's order number on the invoice.")]
    customer: Annotated[Customer, says("Who gets it.")]
    items: Annotated[list[CreditNoteItem], says("What comes back, by fee.")]


class EstimatedItem(Answer):
    """What of a fee would come back."""

    lago_fee_id: Annotated[UUID, says("The fee.")]
    amount_cents: Annotated[int, says("Amount before taxes and discounts, in the currency's smallest unit.")]


class EstimatedTax(Answer):
    """A tax of a credit note that is not made."""

    lago_tax_id: Annotated[UUID, says("The tax.")]
    tax_name: Annotated[str, says("Name of the tax.")]
    tax_code: Annotated[str, says("Code of the tax.")]
    tax_rate: Annotated[float, says("Percentage.", example=20.0)]
    tax_description: Annotated[str | None, says("Description of the tax.")]
    base_amount_cents: Annotated[int, says("The amount before taxes that this tax applies to.")]
    amount_cents: Annotated[int, says("The amount of this tax, in the currency's smallest unit.")]
    amount_currency: Currency


class EstimatedCreditNote(Answer):
    """What a credit note would come to. Amounts are in the currency's smallest unit."""

    lago_invoice_id: Annotated[UUID, says("The invoice.")]
    invoice_number: Annotated[str, says("Number of the invoice.")]
    currency: Currency
    taxes_amount_cents: Annotated[int, says("Taxes.")]
    precise_taxes_amount_cents: Annotated[Number, says("The same, not rounded.")]
    taxes_rate: Annotated[float, says("Sum of the tax percentages.")]
    sub_total_excluding_taxes_amount_cents: Annotated[int, says("Amount before taxes.")]
    max_creditable_amount_cents: Annotated[int, says("The most that can be credit for later invoices.")]
    max_refundable_amount_cents: Annotated[int, says("The most that can be refunded.")]
    max_offsettable_amount_cents: Annotated[
        int, says("The most that can come off what is due on the invoice.")
    ]
    coupons_adjustment_amount_cents: CouponsAdjustment
    precise_coupons_adjustment_amount_cents: Annotated[Number, says("The same, not rounded.")]
    items: Annotated[list[EstimatedItem], says("What would come back, by fee.")]
    applied_taxes: Annotated[list[EstimatedTax], says("Taxes on it.")]


class CreditNoteItemInput(Input):
    """What of a fee is to come back."""

    fee_id: Annotated[UUID, says("lago_id of the fee.")]
    amount_cents: Annotated[int, says("Amount before taxes and discounts, in the currency's smallest unit.")]


class CreditNoteEstimateInput(Input):
    """What is to come back of an invoice."""

    invoice_id: Annotated[UUID, says("lago_id of the invoice.")]
    items: Annotated[list[CreditNoteItemInput], says("What is to come back, by fee.")]


class CreditNoteInput(CreditNoteEstimateInput):
    """A credit note that is to be issued. Its three parts, with taxes, add up to what its items come to."""

    reason: Annotated[str, one_of(*REASONS, says="Why it is issued; other by default.")]
    description: Annotated[str, says("Description.")]
    credit_amount_cents: Annotated[int, says("Credit for later invoices.")]
    refund_amount_cents: Annotated[int, says("What is paid back.")]
    offset_amount_cents: Annotated[int, says("What comes off the amount that is due on the invoice.")]
    metadata: Metadata


class CreditNoteUpdate(Input):
    """What can change of a credit note."""

    refund_status: Annotated[str, one_of(*REFUND_STATUSES, says="Whether the refund was paid.")]
    metadata: Metadata
