"""Custom sections: texts of the seller's own that invoices print below their totals."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from permille.core.record import Record


class CustomSection(Record, kw_only=True):
    """A text that can be chosen for billing entities and customers; `name` and `description` are not printed."""

    id: UUID
    organization_id: UUID
    code: str
    name: str
    description: str | None
    display_name: str | None
    """Its heading."""
    details: str | None
    """What it says."""
    created_at: datetime


class SectionChoice(Record, kw_only=True):
    """What the invoices of a subscription or a wallet print instead of their customer's sections."""

    skips: bool
    """Whether they print none."""
    sections: tuple[CustomSection, ...]
    """Without any, and without `skips`, nothing is chosen: they print the customer's."""
    chosen_at: datetime

    @property
    def says_nothing(self) -> bool:
        """Whether the customer's sections are printed."""
        return not self.skips and not self.sections
