"""Custom sections: texts of the seller's own on invoices."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import Answer, Code, CreatedAt, Id, Input, Name, instant_of, says

Notes = Annotated[str | None, says("What it is for; not printed.")]
Heading = Annotated[str | None, says("Heading on the invoice.", example="Bank details")]
Details = Annotated[str | None, says("What it says on the invoice.", example="IBAN FR76 3000 4000 0312")]
SectionCodes = Annotated[list[str], says("Codes of the custom sections that its invoices print.")]


class InvoiceCustomSection(Answer):
    """A text that invoices print, of the billing entities and customers for which it is chosen."""

    lago_id: Id
    name: Name
    code: Code
    description: Notes
    details: Details
    display_name: Heading
    organization_id: Annotated[UUID, says("The organization.")]
    created_at: CreatedAt


class AppliedCustomSection(Answer):
    """A custom section as it was when the invoice was made."""

    lago_id: Annotated[UUID, says("The section; it may have changed or be deleted since.")]
    lago_invoice_id: Annotated[UUID, says("The invoice.")]
    code: Code
    details: Details
    display_name: Heading
    created_at: CreatedAt


class ChosenCustomSection(Answer):
    """A custom section that a subscription, a wallet or something of one has chosen."""

    lago_id: Id
    created_at: Annotated[str, instant_of("When it was chosen.")]
    invoice_custom_section_id: Annotated[UUID, says("The section.")]
    invoice_custom_section: Annotated[InvoiceCustomSection, says("The section as it is now.")]


ChosenSections = Annotated[
    list[ChosenCustomSection], says("Custom sections that its invoices print instead of its customer's.")
]


class SectionChoiceInput(Input):
    """What invoices print instead of the custom sections of the customer or its billing entity."""

    skip_invoice_custom_sections: Annotated[bool, says("Whether they print none.")]
    invoice_custom_section_codes: SectionCodes


SectionChoice = Annotated[
    SectionChoiceInput,
    says("What its invoices print: all of it at once; without sections, the customer's."),
]


class CustomSectionInput(Input):
    """Fields of a custom section."""

    name: Name
    code: Code
    description: Notes
    details: Details
    display_name: Heading
