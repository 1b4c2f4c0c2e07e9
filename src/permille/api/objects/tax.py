"""Taxes, and taxes as they were applied to a fee, an invoice or a credit note."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, UnsetType

from permille.api.objects.base import Answer, Code, CreatedAt, Currency, Description, Id, Input, Name, says

Uncounted = Annotated[int, says("Always 0: kept for clients of Lago's API.")]


class Tax(Answer, kw_only=True):
    """A tax rate."""

    lago_id: Id
    name: Name
    code: Code
    rate: Annotated[float, says("Percentage of the amount before taxes.", example=20.0)]
    description: Description
    applied_to_organization: Annotated[
        bool, says("Whether it applies wherever nothing more specific is chosen.")
    ]
    add_ons_count: Uncounted
    customers_count: Uncounted
    plans_count: Uncounted
    charges_count: Uncounted
    commitments_count: Uncounted
    created_at: CreatedAt
    applied_to_billing_entities_codes: Annotated[
        list[str] | UnsetType,
        says("Codes of the billing entities that it applies to; only in answers of the tax endpoints."),
    ] = UNSET


class AppliedTax(Answer):
    """A tax as it was when it was applied."""

    lago_id: Id
    lago_tax_id: Annotated[str, says("The tax; it may have changed or be deleted since.")]
    tax_name: Annotated[str, says("The tax's name at that time.")]
    tax_code: Annotated[str, says("The tax's code at that time.")]
    tax_rate: Annotated[float, says("The percentage at that time.", example=20.0)]
    tax_description: Annotated[str | None, says("The tax's description at that time.")]
    amount_cents: Annotated[int, says("The amount of this tax, in the currency's smallest unit.")]
    amount_currency: Currency
    created_at: CreatedAt


class FeeAppliedTax(AppliedTax):
    """A tax on a fee."""

    lago_fee_id: Annotated[UUID, says("The fee.")]


class InvoiceAppliedTax(AppliedTax):
    """A tax on an invoice: the sum of this tax over its fees."""

    fees_amount_cents: Annotated[int, says("The amount before taxes that this tax applies to.")]
    lago_invoice_id: Annotated[UUID, says("The invoice.")]


class TaxInput(Input):
    """Fields of a tax."""

    name: Name
    code: Code
    rate: Annotated[float | str, says("Percentage of the amount before taxes, 0 to 1000.", example=20)]
    description: Description
    applied_to_organization: Annotated[bool, says("Whether the default billing entity gets it.")]
