"""Add-ons: what is sold beside usage, once by a one-off invoice or in every period as a plan's fixed charge."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from permille.core.record import Record
from permille.core.tax import Tax


class AddOn(Record, kw_only=True):
    """Something with a price that can be billed by itself. `amount_cents` is for one unit."""

    id: UUID
    code: str
    name: str
    invoice_display_name: str | None
    description: str | None
    amount_cents: int
    amount_currency: str
    taxes: tuple[Tax, ...]
    created_at: datetime
