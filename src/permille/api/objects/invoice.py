"""Invoices: as lists show them, and with all that is on them."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    EmptyList,
    ExternalSubscriptionId,
    Id,
    Input,
    UpdatedAt,
    instant_of,
    one_of,
    says,
)
from permille.api.objects.custom_section import AppliedCustomSection, SectionChoice
from permille.api.objects.customer import Customer
from permille.api.objects.fee import Fee
from permille.api.objects.subscription import Subscription
from permille.api.objects.tax import InvoiceAppliedTax
from permille.api.objects.threshold import AppliedUsageThreshold
from permille.core.invoice.credit import CreditKind

STATUSES = ("draft", "finalized", "voided", "closed")
PAYMENT_STATUSES = ("pending", "succeeded", "failed")


class InvoiceMetadata(Answer):
    """A note of yours on an invoice."""

    lago_id: Id
    key: Annotated[str, says("Name of the note.")]
    value: Annotated[str, says("Content of the note.")]
    created_at: CreatedAt


class Invoice(Answer):
    """An invoice without its fees. Amounts are in the currency's smallest unit."""

    lago_id: Id
    billing_entity_code: Annotated[str, says("Code of the billing entity that issues it.")]
    sequential_id: Annotated[int | None, says("Number within its sequence; null for a draft.")]
    number: Annotated[str, says("Number of the invoice.", example="ACM-0001-001")]
    purchase_order_number: Annotated[str | None, says("The customer's order number.")]
    issuing_date: Annotated[date, says("Date of the invoice.")]
    payment_due_date: Annotated[date, says("Day by which it is to be paid.")]
    net_payment_term: Annotated[int, says("Days between the two.")]
    invoice_type: Annotated[str, says("Kind of invoice.", example="subscription")]
    status: Annotated[
        str,
        one_of(
            *STATUSES,
            says="Whether it is final. A draft for nothing, of which its customer wants no invoice, is `closed` by its"
            " finalization, and is not shown again.",
        ),
    ]
    waits_for_price: Annotated[bool, says("Whether a draft has usage that has no price yet.")]
    payment_status: Annotated[str, one_of(*PAYMENT_STATUSES, says="Whether it is paid.")]
    payment_dispute_lost_at: Annotated[str | None, instant_of("When a dispute about its payment was lost.")]
    payment_overdue: Annotated[bool, says("Whether it is not paid in time.")]
    currency: Currency
    fees_amount_cents: Annotated[int, says("Sum of the fees before taxes.")]
    taxes_amount_cents: Annotated[int, says("Taxes.")]
    progressive_billing_credit_amount_cents: Annotated[int, says("What was billed before by thresholds.")]
    coupons_amount_cents: Annotated[int, says("Discounts.")]
    credit_notes_amount_cents: Annotated[int, says("What credit notes paid.")]
    sub_total_excluding_taxes_amount_cents: Annotated[int, says("Fees less discounts, before taxes.")]
    sub_total_including_taxes_amount_cents: Annotated[int, says("Fees less discounts, with taxes.")]
    total_amount_cents: Annotated[int, says("What is to be paid.")]
    total_due_amount_cents: Annotated[int, says("What is still to be paid.")]
    total_paid_amount_cents: Annotated[int, says("What was paid.")]
    total_offsetted_credit_note_amount_cents: Annotated[
        int, says("What its own credit notes took off what is due.")
    ]
    prepaid_credit_amount_cents: Annotated[int, says("What prepaid credits paid.")]
    prepaid_granted_credit_amount_cents: Annotated[
        int | None, says("What of it was given for nothing; null where no wallet paid.")
    ]
    prepaid_purchased_credit_amount_cents: Annotated[
        int | None, says("What of it was bought; null where no wallet paid.")
    ]
    file_url: Annotated[
        str | None, says("Address of the PDF; in the answer to a download and in the webhook of it alone.")
    ]
    xml_url: Annotated[None, says("Always null: kept for clients of Lago's API.")]
    web_url: Annotated[None, says("Always null: kept for clients of Lago's API.")]
    version_number: Annotated[int, says("Version of the rules that it was made by.")]
    self_billed: Annotated[bool, says("Whether it is issued in a partner's name.")]
    created_at: CreatedAt
    updated_at: UpdatedAt
    voided_at: Annotated[str | None, instant_of("When it was voided.")]
    lago_voided_invoice_id: Annotated[UUID | None, says("The voided invoice that it replaces.")]
    customer: Annotated[Customer, says("Who pays.")]
    metadata: Annotated[list[InvoiceMetadata], says("Your notes.")]
    applied_taxes: Annotated[list[InvoiceAppliedTax], says("Taxes on it.")]


class BillingPeriod(Answer):
    """A subscription on an invoice, and the periods that it is billed for."""

    lago_subscription_id: Annotated[UUID, says("The subscription.")]
    external_subscription_id: ExternalSubscriptionId
    lago_plan_id: Annotated[UUID, says("The plan.")]
    subscription_from_datetime: Annotated[str | None, instant_of("Start of the subscription fee's period.")]
    subscription_to_datetime: Annotated[
        str | None, instant_of("Last second of the subscription fee's period.")
    ]
    charges_from_datetime: Annotated[str | None, instant_of("Start of the usage's period.")]
    charges_to_datetime: Annotated[str | None, instant_of("Last second of the usage's period.")]
    fixed_charges_from_datetime: Annotated[str | None, instant_of("Kept for clients of Lago's API.")]
    fixed_charges_to_datetime: Annotated[str | None, instant_of("Kept for clients of Lago's API.")]
    invoicing_reason: Annotated[str, says("Why it is billed.", example="subscription_periodic")]


class CreditItem(Answer):
    """What a credit of an invoice comes from."""

    lago_item_id: Annotated[UUID, says("The coupon, the credit note or the earlier invoice.")]
    type: Annotated[str, one_of(*CreditKind, says="What it is.")]
    code: Annotated[str, says("Code of the coupon, or number of the credit note or invoice.")]
    name: Annotated[str, says("Name of the coupon, or number of the credit note or invoice.")]
    description: Annotated[str | None, says("Description of the coupon.")]


class CreditedInvoice(Answer):
    """The invoice that has a credit."""

    lago_id: Id
    payment_status: Annotated[str, one_of(*PAYMENT_STATUSES, says="Whether it is paid.")]


class InvoiceCredit(Answer):
    """What a coupon or an earlier invoice of the same usage took off an invoice, or what of a credit note paid it."""

    lago_id: Id
    amount_cents: Annotated[int, says("Amount in the currency's smallest unit.")]
    amount_currency: Currency
    before_taxes: Annotated[
        bool, says("Whether it lowers what taxes are taken of, as all but credit notes do.")
    ]
    item: Annotated[CreditItem, says("What it comes from.")]
    invoice: Annotated[CreditedInvoice, says("The invoice.")]


class InvoiceDetails(Invoice):
    """An invoice with its fees. Amounts are in the currency's smallest unit."""

    subscriptions: Annotated[list[Subscription], says("Subscriptions that it bills.")]
    billing_periods: Annotated[list[BillingPeriod], says("Periods that it bills.")]
    fees: Annotated[list[Fee], says("Its lines.")]
    credits: Annotated[
        list[InvoiceCredit],
        says("What earlier invoices and coupons took off it, and credit notes paid of it."),
    ]
    error_details: EmptyList
    applied_usage_thresholds: Annotated[
        list[AppliedUsageThreshold], says("The usage thresholds that it was made of.")
    ]
    applied_invoice_custom_sections: Annotated[
        list[AppliedCustomSection], says("Custom sections that it prints.")
    ]


class InvoiceMetadataInput(Input):
    """A note of yours on an invoice."""

    id: Annotated[UUID, says("lago_id of a note that is kept.")]
    key: Annotated[str, says("Name of the note, up to 20 characters.")]
    value: Annotated[str, says("Content of the note, up to 255 characters.")]


class SoldAddOnInput(Input):
    """An add-on on a one-off invoice."""

    add_on_code: Annotated[str, says("Code of the add-on.")]
    units: Annotated[str | float, says("How much of it; 1 by default.")]
    unit_amount_cents: Annotated[
        int, says("Price of one unit in the currency's smallest unit; the add-on's by default.")
    ]
    invoice_display_name: Annotated[str, says("Name of the line; the add-on's by default.")]
    description: Annotated[str, says("Description of the line; the add-on's by default.")]
    from_datetime: Annotated[str, instant_of("Start of what it is for; with to_datetime.")]
    to_datetime: Annotated[str, instant_of("End of what it is for; with from_datetime.")]
    tax_codes: Annotated[list[str], says("Taxes of the line, instead of the add-on's or the customer's.")]


class OneOffInput(Input):
    """A one-off invoice that is to be made. It is final at once and takes no coupons and no credit."""

    external_customer_id: Annotated[str, says("Your identifier of the customer.")]
    currency: Annotated[str, says("Currency code (ISO 4217); the customer's by default.")]
    billing_entity_code: Annotated[str, says("Who issues it; the customer's billing entity by default.")]
    fees: Annotated[list[SoldAddOnInput], says("What is billed.")]
    invoice_custom_section: SectionChoice


class RegeneratedFeeInput(Input):
    """A fee of the invoice that replaces a voided one. With `id` it is a fee of that one, else usage that is added."""

    id: Annotated[UUID, says("lago_id of the fee of the voided invoice.")]
    subscription_id: Annotated[
        UUID, says("lago_id of a subscription on the voided invoice, of usage that is added.")
    ]
    charge_id: Annotated[UUID, says("lago_id of the charge of usage that is added.")]
    charge_filter_id: Annotated[UUID, says("lago_id of its filter, if it is of one.")]
    units: Annotated[str | float, says("How much; without unit_amount_cents it is priced by the charge.")]
    unit_amount_cents: Annotated[
        str | float, says("Price of one unit in the currency's smallest unit, with any decimals.")
    ]
    invoice_display_name: Annotated[str, says("Name of the line.")]
    description: Annotated[str, says("Description of the line.")]
    remove: Annotated[bool, says("Whether the fee is left out.")]


class InvoiceUpdate(Input):
    """What can change of an invoice."""

    payment_status: Annotated[str, one_of(*PAYMENT_STATUSES, says="Whether it is paid.")]
    metadata: Annotated[list[InvoiceMetadataInput], says("All of your notes, up to 5; others are removed.")]
