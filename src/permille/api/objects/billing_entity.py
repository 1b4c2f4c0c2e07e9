"""Billing entities: who issues invoices."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    Currency,
    Id,
    Input,
    Name,
    UpdatedAt,
    one_of,
    says,
)
from permille.api.objects.custom_section import InvoiceCustomSection, SectionCodes
from permille.api.objects.tax import Tax

Numbering = Annotated[str, one_of("per_customer", "per_billing_entity", says="How invoices are numbered.")]
NumberPrefix = Annotated[str, says("First part of document numbers.", example="ACM")]
IssuingAnchor = Annotated[
    str | None,
    one_of(
        "current_period_end",
        "next_period_start",
        None,
        says="Whether invoices are dated on the last day of their period or the day after; null inherits.",
    ),
]
IssuingAdjustment = Annotated[
    str | None,
    one_of(
        "keep_anchor",
        "align_with_finalization_date",
        None,
        says="Whether a draft keeps its date or gets the day on which it becomes final; null inherits.",
    ),
]
PaymentTerm = Annotated[int, says("Days between the issuing date and the due date.")]
GracePeriod = Annotated[int, says("Days for which invoices stay drafts.")]
Locale = Annotated[str, says("Language of documents.", example="en")]
Timezone = Annotated[
    str, says("IANA name of the timezone that days and months are counted in.", example="UTC")
]
Country = Annotated[str | None, says("Two-letter country code (ISO 3166).", example="DE")]
Email = Annotated[str | None, says("Email address.")]
LegalName = Annotated[str | None, says("Registered name.")]
LegalNumber = Annotated[str | None, says("Registration number.")]
TaxNumber = Annotated[str | None, says("Tax identification number, e.g. for VAT.")]
AddressLine1 = Annotated[str | None, says("First line of the address.")]
AddressLine2 = Annotated[str | None, says("Second line of the address.")]
City = Annotated[str | None, says("City.")]
Zipcode = Annotated[str | None, says("Postal code.")]
State = Annotated[str | None, says("State or region.")]
LogoUrl = Annotated[str | None, says("Address of the logo for documents.")]
BrandColor = Annotated[
    str | None,
    says("Colour of headings in documents and mails; it must be readable on white.", example="#1f4e79"),
]
Footer = Annotated[str | None, says("Text at the end of invoices.")]
BankDetails = Annotated[str | None, says("How to pay, printed on invoices.")]
ReverseChargeNote = Annotated[
    str | None, says("Printed where the customer accounts for the tax instead of the seller.")
]
EmailSettings = Annotated[
    list[str],
    says(
        "What customers get by mail without being asked: `invoice.finalized`, `credit_note.created`, "
        "`payment_receipt.created`. Payment requests are always sent.",
        example=["invoice.finalized"],
    ),
]
EuTaxes = Annotated[
    bool,
    says("Whether its customers get the European Union's VAT, by their country, post code and VAT number."),
]
FinalizesZero = Annotated[bool, says("Whether invoices of 0 become final; if not, they are left out.")]


class BillingEntity(Answer):
    """Who issues the invoices. Customers inherit settings that they don't have themselves."""

    lago_id: Id
    code: Code
    name: Name
    default_currency: Currency
    document_numbering: Numbering
    document_number_prefix: NumberPrefix
    finalize_zero_amount_invoice: FinalizesZero
    net_payment_term: PaymentTerm
    invoice_grace_period: GracePeriod
    subscription_invoice_issuing_date_anchor: IssuingAnchor
    subscription_invoice_issuing_date_adjustment: IssuingAdjustment
    legal_name: LegalName
    legal_number: LegalNumber
    tax_identification_number: TaxNumber
    address_line1: AddressLine1
    address_line2: AddressLine2
    city: City
    zipcode: Zipcode
    state: State
    email: Email
    logo_url: LogoUrl
    brand_color: BrandColor
    invoice_footer: Footer
    bank_details: BankDetails
    reverse_charge_note: ReverseChargeNote
    country: Country
    document_locale: Locale
    timezone: Timezone
    is_default: Annotated[bool, says("Whether new customers belong to it unless they name another.")]
    email_settings: EmailSettings
    eu_tax_management: EuTaxes
    taxes: Annotated[list[Tax], says("Taxes of its customers who have none of their own.")]
    selected_invoice_custom_sections: Annotated[
        list[InvoiceCustomSection], says("Custom sections of its customers who have none of their own.")
    ]
    lago_dunning_campaign_id: Annotated[UUID | None, says("Dunning campaign of its customers.")]
    created_at: CreatedAt
    updated_at: UpdatedAt


class BillingSettings(Input):
    """Invoice settings."""

    invoice_footer: Footer
    invoice_grace_period: GracePeriod
    document_locale: Locale
    subscription_invoice_issuing_date_anchor: IssuingAnchor
    subscription_invoice_issuing_date_adjustment: IssuingAdjustment


class EntitySettings(Input):
    """Settings of a billing entity that are an organization's too. Null changes nothing where there is a default."""

    default_currency: Currency
    document_numbering: Annotated[
        str,
        one_of("per_customer", "per_billing_entity", "per_organization", says="How invoices are numbered."),
    ]
    document_number_prefix: NumberPrefix
    finalize_zero_amount_invoice: FinalizesZero
    net_payment_term: PaymentTerm
    invoice_grace_period: GracePeriod
    subscription_invoice_issuing_date_anchor: IssuingAnchor
    subscription_invoice_issuing_date_adjustment: IssuingAdjustment
    billing_configuration: Annotated[BillingSettings, says("Invoice settings, here or beside it.")]
    legal_name: LegalName
    legal_number: LegalNumber
    tax_identification_number: TaxNumber
    address_line1: AddressLine1
    address_line2: AddressLine2
    city: City
    zipcode: Zipcode
    state: State
    country: Country
    email: Email
    logo_url: LogoUrl
    brand_color: BrandColor
    invoice_footer: Footer
    bank_details: BankDetails
    reverse_charge_note: ReverseChargeNote
    document_locale: Locale
    timezone: Timezone
    email_settings: EmailSettings
    eu_tax_management: EuTaxes


class BillingEntityUpdate(EntitySettings):
    """Settings of a billing entity. Null changes nothing where there is a default."""

    name: Name
    tax_codes: Annotated[list[str], says("Codes of the taxes of its customers who have none of their own.")]
    invoice_custom_section_codes: SectionCodes
    dunning_campaign_code: Annotated[
        str | None, says("Dunning campaign of its customers who have none of their own; null for none.")
    ]


class BillingEntityInput(BillingEntityUpdate):
    """A billing entity to make."""

    code: Code
