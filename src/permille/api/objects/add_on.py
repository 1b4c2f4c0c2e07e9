"""Add-ons: what is billed by itself, once or in every period."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    Currency,
    Description,
    DisplayName,
    Id,
    Input,
    Name,
    says,
)
from permille.api.objects.tax import Tax

Price = Annotated[int, says("The price of one unit, in the currency's smallest unit.", example=5000)]


class AddOn(Answer):
    """Something with a price that is sold beside usage."""

    lago_id: Id
    name: Name
    invoice_display_name: DisplayName
    code: Code
    amount_cents: Price
    amount_currency: Currency
    description: Description
    created_at: CreatedAt
    taxes: Annotated[list[Tax], says("Taxes of its fees; without any, the customer's apply.")]


class AddOnInput(Input):
    """Fields of an add-on."""

    name: Name
    invoice_display_name: DisplayName
    code: Code
    amount_cents: Price
    amount_currency: Currency
    description: Description
    tax_codes: Annotated[list[str], says("Codes of the taxes of its fees.")]
