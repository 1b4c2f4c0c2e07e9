"""The minimum commitment of a plan: what a period of it comes to at least. Source: semantics-billing.md section 6.2."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from permille.core.record import Record
from permille.core.tax import Tax


class MinimumCommitment(Record, kw_only=True):
    """An amount for one interval of the plan; what its fees lack of it is billed as a fee of its own."""

    id: UUID
    amount_cents: int
    invoice_display_name: str | None
    created_at: datetime
    updated_at: datetime
    taxes: tuple[Tax, ...] = ()
    """Instead of the plan's."""
