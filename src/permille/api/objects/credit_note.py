"""Credit notes: what comes back of an invoice."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    EmptyList,
    Id,
    UpdatedAt,
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


class CreditNoteItem(Answer):
    """What of a fee comes back."""

    lago_id: Id
    amount_cents: Annotated[int, says("Amount before taxes, in the currency's smallest unit.")]
    precise_amount_cents: Annotated[str, text_of_number("The same, not rounded.")]
    amount_currency: Currency
    fee: Annotated[Fee, says("The fee.")]


class CreditNote(Answer):
    """What comes back of an invoice, as credit for later invoices or as a refund."""

    lago_id: Id
    sequential_id: Annotated[int, says("Number among the invoice's credit notes.")]
    number: Annotated[str, says("Number of the credit note.", example="ACM-0001-001-CN001")]
    lago_invoice_id: Annotated[UUID, says("The invoice.")]
    issuing_date: Annotated[date, says("Date of the credit note.")]
    credit_status: Annotated[str | None, says("Whether there is credit left.", example="available")]
    refund_status: Annotated[str | None, says("Whether the refund was paid.", example="pending")]
    reason: Annotated[str, says("Why it was issued.", example="order_change")]
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
    coupons_adjustment_amount_cents: Annotated[int, says("Part of the discounts that is not credited.")]
    applied_taxes: Annotated[list[CreditNoteAppliedTax], says("Taxes on it.")]
    file_url: Annotated[None, says("Always null: PDFs of credit notes aren't built yet.")]
    xml_url: Annotated[None, says("Always null: kept for clients of Lago's API.")]
    self_billed: Annotated[bool, says("Always false: kept for clients of Lago's API.")]
    error_details: EmptyList
    metadata: Annotated[dict[str, Any], says("Always empty.")]
    created_at: CreatedAt
    updated_at: UpdatedAt
    billing_entity_code: Annotated[str, says("Code of the billing entity that issues it.")]
    invoice_number: Annotated[str, says("Number of the invoice.")]
    purchase_order_number: Annotated[str | None, says("The customer's order number on the invoice.")]
    customer: Annotated[Customer, says("Who gets it.")]
    items: Annotated[list[CreditNoteItem], says("What comes back, by fee.")]
