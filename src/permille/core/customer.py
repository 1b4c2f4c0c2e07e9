"""The customer: who pays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from permille.core.custom_section import CustomSection, SectionChoice
from permille.core.record import Record, replace
from permille.core.tax import Tax


class BillingEntity(Record, kw_only=True):
    """Who issues the invoices; a customer inherits its settings where it has none of its own."""

    id: UUID
    organization_id: UUID
    code: str
    name: str
    is_default: bool
    default_currency: str
    timezone: str
    net_payment_term: int
    invoice_grace_period: int
    finalize_zero_amount_invoice: bool
    document_numbering: str
    document_number_prefix: str
    document_locale: str
    subscription_invoice_issuing_date_anchor: str
    subscription_invoice_issuing_date_adjustment: str
    invoice_footer: str | None
    email: str | None
    legal_name: str | None
    legal_number: str | None
    tax_identification_number: str | None
    address_line1: str | None
    address_line2: str | None
    city: str | None
    zipcode: str | None
    state: str | None
    country: str | None
    logo_url: str | None
    bank_details: str | None
    """How to pay, printed on invoices."""
    reverse_charge_note: str | None
    """Printed where `Customer.is_reverse_charged` and no tax is due."""
    email_settings: Sequence[str]
    """What customers get by mail without being asked, of `core.mail.EMAIL_SETTINGS`."""
    created_at: datetime
    updated_at: datetime
    taxes: tuple[Tax, ...] = ()
    custom_sections: tuple[CustomSection, ...] = ()
    dunning_campaign_id: UUID | None = None
    """The dunning campaign of its customers who have none of their own."""
    eu_tax_management: bool = False
    """Whether its customers get the European Union's VAT that applies to them: `core.eu_tax`."""
    brand_color: str | None = None
    """The colour of headings in its documents and mails, like #1f4e79."""

    @property
    def draft_terms(self) -> tuple[int, str, str, int]:
        """What decides the dates of drafts, where their customers have nothing of their own."""
        return (
            self.invoice_grace_period,
            self.subscription_invoice_issuing_date_anchor,
            self.subscription_invoice_issuing_date_adjustment,
            self.net_payment_term,
        )


class Customer(Record, kw_only=True):
    """`external_id` is the caller's own name for it. Null settings are inherited from the billing entity."""

    id: UUID
    organization_id: UUID
    external_id: str
    sequential_id: int
    slug: str
    account_type: str
    customer_type: str | None
    name: str | None
    firstname: str | None
    lastname: str | None
    legal_name: str | None
    legal_number: str | None
    tax_identification_number: str | None
    email: str | None
    phone: str | None
    url: str | None
    logo_url: str | None
    country: str | None
    address_line1: str | None
    address_line2: str | None
    city: str | None
    zipcode: str | None
    state: str | None
    shipping_address: Mapping[str, Any]
    currency: str | None
    timezone: str | None
    net_payment_term: int | None
    finalize_zero_amount_invoice: str
    external_salesforce_id: str | None
    billing_configuration: Mapping[str, Any]
    skip_invoice_custom_sections: bool
    metadata: Sequence[Mapping[str, Any]]
    billing_entity: BillingEntity
    created_at: datetime
    updated_at: datetime
    taxes: tuple[Tax, ...] = ()
    custom_sections: tuple[CustomSection, ...] = ()
    dunning_campaign_id: UUID | None = None
    """Its own dunning campaign, instead of that of its billing entity."""
    exclude_from_dunning_campaign: bool = False
    taxes_are_chosen: bool = False
    """Whether somebody chose `taxes`: then a look-up of the VAT number doesn't change them."""

    def billed_by(self, entity: BillingEntity) -> Customer:
        """The customer as another billing entity bills it: with the entity's settings, and the days of the customer's own timezone."""
        if entity.id == self.billing_entity.id:
            return self
        return replace(self, billing_entity=entity, timezone=self.applicable_timezone)

    @property
    def is_self_billed(self) -> bool:
        """Whether its invoices are issued in its name: it is a partner that is paid, not a customer that pays."""
        return self.account_type == "partner"

    @property
    def applicable_timezone(self) -> str:
        return self.timezone or self.billing_entity.timezone

    @property
    def applicable_net_payment_term(self) -> int:
        """Days; 0 is a real value, null inherits."""
        own = self.net_payment_term
        return self.billing_entity.net_payment_term if own is None else own

    @property
    def applicable_invoice_grace_period(self) -> int:
        """Days for which an invoice stays a draft; 0 is a real value, null inherits."""
        own = self.billing_configuration.get("invoice_grace_period")
        return self.billing_entity.invoice_grace_period if own is None else int(own)

    @property
    def applicable_issuing_date_anchor(self) -> str:
        """The day that a period's invoice has: next_period_start or current_period_end."""
        own = self.billing_configuration.get("subscription_invoice_issuing_date_anchor")
        return own or self.billing_entity.subscription_invoice_issuing_date_anchor

    @property
    def applicable_issuing_date_adjustment(self) -> str:
        """What a grace period does to that day: keep_anchor or align_with_finalization_date."""
        own = self.billing_configuration.get("subscription_invoice_issuing_date_adjustment")
        return own or self.billing_entity.subscription_invoice_issuing_date_adjustment

    @property
    def own_draft_terms(self) -> tuple[Any, ...]:
        """What it has of its own of a billing entity's `draft_terms`: any entity may issue its drafts."""
        own = self.billing_configuration
        days, anchor, adjustment = (
            own.get(name)
            for name in (
                "invoice_grace_period",
                "subscription_invoice_issuing_date_anchor",
                "subscription_invoice_issuing_date_adjustment",
            )
        )
        return days, anchor, adjustment, self.net_payment_term

    @property
    def applicable_document_locale(self) -> str:
        """The language of the customer's documents."""
        return self.billing_configuration.get("document_locale") or self.billing_entity.document_locale

    @property
    def applicable_custom_sections(self) -> tuple[CustomSection, ...]:
        """What its invoices print: its own sections, else those of the billing entity, or none at all."""
        if self.skip_invoice_custom_sections:
            return ()
        return self.custom_sections or self.billing_entity.custom_sections

    def printed_sections(self, choices: Iterable[SectionChoice | None]) -> tuple[CustomSection, ...]:
        """What an invoice for these prints: each brings the sections of its own choice, or else the customer's."""
        brought = [
            self.applicable_custom_sections
            if choice is None or choice.says_nothing
            else ()
            if choice.skips
            else choice.sections
            for choice in choices
        ]
        found = {section.id: section for sections in brought for section in sections}
        return tuple(sorted(found.values(), key=lambda section: section.code))

    @property
    def is_reverse_charged(self) -> bool:
        """Whether a sale without tax is one that the customer accounts for: a tax id, in another country."""
        own, theirs = self.billing_entity.country, self.country
        return bool(self.tax_identification_number and own and theirs) and own != theirs

    @property
    def finalizes_zero_amount_invoice(self) -> bool:
        if self.finalize_zero_amount_invoice == "inherit":
            return self.billing_entity.finalize_zero_amount_invoice
        return self.finalize_zero_amount_invoice == "finalize"
