"""Customers: who pays."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects import billing_entity as entity
from permille.api.objects.base import (
    Answer,
    CreatedAt,
    EmptyList,
    ExternalCustomerId,
    Id,
    Input,
    UpdatedAt,
    one_of,
    says,
)
from permille.api.objects.custom_section import InvoiceCustomSection, SectionCodes
from permille.api.objects.tax import Tax

SkipsSections = Annotated[bool, says("Whether its invoices print no custom sections, whatever is chosen.")]
Inherited = " Null inherits that of the billing entity."


class CustomerMetadata(Answer):
    """A note of yours on a customer."""

    lago_id: Id
    key: Annotated[str, says("Name of the note.")]
    value: Annotated[str, says("Content of the note.")]
    display_in_invoice: Annotated[bool, says("Whether it is printed on invoices.")]
    created_at: CreatedAt


class Address(Answer):
    """A postal address."""

    address_line1: entity.AddressLine1
    address_line2: entity.AddressLine2
    city: entity.City
    zipcode: entity.Zipcode
    state: entity.State
    country: entity.Country


class CustomerBilling(Answer):
    """Billing settings of a customer."""

    invoice_grace_period: Annotated[int | None, says(f"Days for which invoices stay drafts.{Inherited}")]
    payment_provider: Annotated[str | None, says("Always null: payment providers aren't built yet.")]
    payment_provider_code: Annotated[str | None, says("Always null: payment providers aren't built yet.")]
    document_locale: Annotated[str | None, says(f"Language of documents.{Inherited}")]
    subscription_invoice_issuing_date_anchor: entity.IssuingAnchor
    subscription_invoice_issuing_date_adjustment: entity.IssuingAdjustment


class Customer(Answer):
    """A customer. Settings that are null are inherited from the billing entity."""

    lago_id: Id
    billing_entity_code: Annotated[str, says("Code of the billing entity that invoices the customer.")]
    external_id: ExternalCustomerId
    account_type: Annotated[str, one_of("customer", "partner", says="Whether it pays, or is paid.")]
    name: Annotated[str | None, says("Name.")]
    firstname: Annotated[str | None, says("First name.")]
    lastname: Annotated[str | None, says("Last name.")]
    legal_name: entity.LegalName
    legal_number: entity.LegalNumber
    tax_identification_number: entity.TaxNumber
    phone: Annotated[str | None, says("Phone number.")]
    address_line1: entity.AddressLine1
    address_line2: entity.AddressLine2
    city: entity.City
    zipcode: entity.Zipcode
    state: entity.State
    external_salesforce_id: Annotated[str | None, says("Identifier in Salesforce.")]
    email: entity.Email
    url: Annotated[str | None, says("Web site.")]
    logo_url: entity.LogoUrl
    customer_type: Annotated[str | None, one_of("company", "individual", None, says="Kind of customer.")]
    sequential_id: Annotated[int, says("Number of the customer within the organization.")]
    slug: Annotated[str, says("Prefix and number, used in invoice numbers.", example="ACM-0001")]
    country: entity.Country
    currency: Annotated[str | None, says("Currency code; null until the first subscription sets it.")]
    timezone: Annotated[str | None, says(f"IANA timezone.{Inherited}")]
    applicable_timezone: entity.Timezone
    net_payment_term: Annotated[int | None, says(f"Days between issuing date and due date.{Inherited}")]
    finalize_zero_amount_invoice: Annotated[
        str, one_of("inherit", "skip", "finalize", says="What is done with invoices of 0.")
    ]
    skip_invoice_custom_sections: SkipsSections
    created_at: CreatedAt
    updated_at: UpdatedAt
    billing_configuration: Annotated[CustomerBilling, says("Billing settings.")]
    shipping_address: Annotated[Address, says("Where goods are shipped to.")]
    metadata: Annotated[list[CustomerMetadata], says("Your notes.")]
    taxes: Annotated[list[Tax], says("Taxes of its own; without any, the billing entity's apply.")]
    integration_customers: EmptyList
    applicable_invoice_custom_sections: Annotated[
        list[InvoiceCustomSection], says("Custom sections that its invoices print.")
    ]
    lago_dunning_campaign_id: Annotated[
        UUID | None, says("Its own dunning campaign, instead of that of its billing entity.")
    ]
    exclude_from_dunning_campaign: Annotated[bool, says("Whether no campaign asks it for what is overdue.")]


class ViesCheck(Answer):
    """What VIES says of a customer's VAT number."""

    valid: Annotated[bool, says("Whether it is registered.")]
    valid_format: Annotated[bool, says("Whether its letters, length and check digits are right.")]
    vat_number: Annotated[str, says("The number as it was looked up.")]
    name: Annotated[str | None, says("Whose it is, where the register shows it.")]
    address: Annotated[str | None, says("Their address, where the register shows it.")]


class CheckedCustomer(Customer):
    """A customer whose VAT number was looked up."""

    vies_check: Annotated[ViesCheck, says("What came of it.")]


class CustomerMetadataInput(Input):
    """A note of yours on a customer."""

    id: Annotated[UUID, says("lago_id of a note that is changed.")]
    key: Annotated[str, says("Name of the note, up to 20 characters.")]
    value: Annotated[str, says("Content of the note, up to 100 characters.")]
    display_in_invoice: Annotated[bool, says("Whether it is printed on invoices.")]


class AddressInput(Input):
    """A postal address."""

    address_line1: entity.AddressLine1
    address_line2: entity.AddressLine2
    city: entity.City
    zipcode: entity.Zipcode
    state: entity.State
    country: entity.Country


class CustomerBillingInput(Input):
    """Billing settings of a customer."""

    invoice_grace_period: Annotated[int | None, says(f"Days for which invoices stay drafts.{Inherited}")]
    document_locale: Annotated[str | None, says(f"Language of documents.{Inherited}")]
    subscription_invoice_issuing_date_anchor: entity.IssuingAnchor
    subscription_invoice_issuing_date_adjustment: entity.IssuingAdjustment


class CustomerInput(Input):
    """Fields of a customer: what is not sent stays as it is."""

    external_id: ExternalCustomerId
    billing_entity_code: Annotated[str, says("Code of the billing entity that invoices the customer.")]
    account_type: Annotated[
        str,
        one_of(
            "customer",
            "partner",
            says="Whether it pays or, as a partner, is paid: then its invoices are self-billed. "
            "It stays as it is once there is a subscription or an invoice.",
        ),
    ]
    customer_type: Annotated[str | None, one_of("company", "individual", None, says="Kind of customer.")]
    name: Annotated[str | None, says("Name.")]
    firstname: Annotated[str | None, says("First name.")]
    lastname: Annotated[str | None, says("Last name.")]
    legal_name: entity.LegalName
    legal_number: entity.LegalNumber
    tax_identification_number: entity.TaxNumber
    email: entity.Email
    phone: Annotated[str | None, says("Phone number.")]
    url: Annotated[str | None, says("Web site.")]
    logo_url: entity.LogoUrl
    address_line1: entity.AddressLine1
    address_line2: entity.AddressLine2
    city: entity.City
    zipcode: entity.Zipcode
    state: entity.State
    country: entity.Country
    shipping_address: Annotated[AddressInput, says("Where goods are shipped to.")]
    currency: Annotated[str | None, says("Currency code; by default that of the first plan.", example="EUR")]
    timezone: Annotated[str | None, says(f"IANA timezone.{Inherited}", example="Europe/Berlin")]
    net_payment_term: Annotated[int | None, says(f"Days between issuing date and due date.{Inherited}")]
    invoice_grace_period: Annotated[int | None, says(f"Days for which invoices stay drafts.{Inherited}")]
    finalize_zero_amount_invoice: Annotated[
        str, one_of("inherit", "skip", "finalize", says="What is done with invoices of 0.")
    ]
    skip_invoice_custom_sections: SkipsSections
    external_salesforce_id: Annotated[str | None, says("Identifier in Salesforce.")]
    billing_configuration: Annotated[CustomerBillingInput, says("Billing settings.")]
    metadata: Annotated[list[CustomerMetadataInput], says("All of your notes, up to 5; others are removed.")]
    tax_codes: Annotated[list[str], says("Codes of the taxes of its own.")]
    invoice_custom_section_codes: SectionCodes
    dunning_campaign_code: Annotated[
        str | None, says("Dunning campaign, instead of that of the billing entity; null for none of its own.")
    ]
    exclude_from_dunning_campaign: Annotated[bool, says("Whether no campaign asks it for what is overdue.")]
