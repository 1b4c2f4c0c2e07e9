"""The organization as its own key sees it, as the admin API does, and its keys and test clock."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from permille.api.objects import billing_entity as entity
from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    Id,
    Input,
    Name,
    instant_of,
    one_of,
    says,
)
from permille.api.objects.tax import Tax

Secret = Annotated[str, says("The key itself: shown once, only here.")]
Prefix = Annotated[str, says("First characters of the key, to recognize it.")]


AutoApprovesPrices = Annotated[
    bool,
    says(
        "Whether versions of the price catalogue without outliers are approved as they come in; false by default."
    ),
]


class OrganizationBilling(Answer):
    """Invoice settings of the default billing entity."""

    invoice_footer: entity.Footer
    invoice_grace_period: entity.GracePeriod
    document_locale: entity.Locale
    subscription_invoice_issuing_date_anchor: entity.IssuingAnchor
    subscription_invoice_issuing_date_adjustment: entity.IssuingAdjustment


class Organization(Answer):
    """The organization that the API key belongs to, with the settings of its default billing entity."""

    lago_id: Id
    name: Name
    created_at: CreatedAt
    webhook_url: Annotated[str | None, says("Address of the newest webhook endpoint.")]
    webhook_urls: Annotated[list[str], says("Addresses of all webhook endpoints.")]
    default_currency: Currency
    country: entity.Country
    address_line1: entity.AddressLine1
    address_line2: entity.AddressLine2
    state: entity.State
    zipcode: entity.Zipcode
    email: entity.Email
    city: entity.City
    legal_name: entity.LegalName
    legal_number: entity.LegalNumber
    document_number_prefix: entity.NumberPrefix
    net_payment_term: entity.PaymentTerm
    tax_identification_number: entity.TaxNumber
    logo_url: entity.LogoUrl
    bank_details: entity.BankDetails
    reverse_charge_note: entity.ReverseChargeNote
    timezone: entity.Timezone
    finalize_zero_amount_invoice: entity.FinalizesZero
    document_numbering: Annotated[
        str, one_of("per_customer", "per_organization", says="How invoices are numbered.")
    ]
    email_settings: entity.EmailSettings
    billing_configuration: Annotated[OrganizationBilling, says("Invoice settings.")]
    taxes: Annotated[list[Tax], says("Taxes of customers who have none of their own.")]
    events_store: Annotated[str, says("Where events are kept.", example="postgres")]
    auto_approve_prices: AutoApprovesPrices


class InstalledOrganization(Answer, kw_only=True):
    """An organization as the admin API shows it."""

    lago_id: Id
    name: Name
    test_mode: Annotated[bool, says("Whether it has a clock of its own that can be moved.")]
    now: Annotated[str | None, instant_of("What its test clock shows; null for a live organization.")]
    hmac_key: Annotated[str, says("Key that webhooks are signed with under the algorithm hmac.")]
    created_at: CreatedAt
    api_key: Annotated[str | UnsetType, says("The first API key: shown once, when it is created.")] = UNSET


class OrganizationCount(Answer):
    """How many organizations there are."""

    total_count: Annotated[int, says("Number of organizations.")]


Permissions = Annotated[
    dict[str, list[str]] | None,
    says(
        "What the key may do: kinds of objects, each with `read`, `write` or both; null: everything.",
        example={"event": ["write"]},
    ),
]


class NewApiKey(Answer):
    """An API key that was just created."""

    lago_id: Id
    name: Name
    api_key: Secret
    prefix: Prefix
    permissions: Permissions
    expires_at: Annotated[str | None, instant_of("When it ends by itself.")]


class ApiKey(Answer):
    """An API key without its secret."""

    lago_id: Id
    name: Name
    prefix: Prefix
    last_four: Annotated[str, says("Last four characters of the key.")]
    permissions: Permissions
    created_at: CreatedAt
    expires_at: Annotated[str | None, instant_of("When it ends by itself.")]
    revoked_at: Annotated[str | None, instant_of("When it was revoked.")]
    last_used_at: Annotated[str | None, instant_of("When it was used last, to the minute.")]


class RevokedApiKey(Answer):
    """An API key that no longer works."""

    lago_id: Id


class TestClock(Answer):
    """The clock of an organization in test mode."""

    now: Annotated[str, instant_of("What the clock shows.")]
    moving_to: Annotated[str | None, instant_of("Where it is on its way to; null when it stays.")]


class OrganizationInput(entity.EntitySettings):
    """Settings of the organization's default billing entity."""

    webhook_url: Annotated[str, says("An address that isn't a webhook endpoint yet becomes one.")]
    auto_approve_prices: AutoApprovesPrices


class NewOrganization(entity.EntitySettings):
    """A new organization, with settings of its billing entity."""

    name: Name
    test_mode: Annotated[bool, says("Whether it gets a clock of its own that can be moved.")]
    now: Annotated[str, instant_of("What the test clock shows at first.")]


class ApiKeyInput(Input):
    """A new API key."""

    name: Name
    permissions: Permissions
    expires_at: Annotated[str, instant_of("When it is to end by itself.")]


class ApiKeyRotation(Input):
    """When the old key ends."""

    expires_at: Annotated[str, instant_of("When the old key ends; without it, at once.")]


class TestClockInput(Input):
    """Where the test clock is moved to."""

    now: Annotated[str, instant_of("A later time than the clock shows.")]
