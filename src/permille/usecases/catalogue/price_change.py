"""What follows once prices of an organization are others, whatever has changed them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.store import billing_holds, late_usage, unpriced


def prices_changed(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Try held customers again, look again for usage without a price, and price late usage again."""
    billing_holds.retry_soon(conn, organization_id, now=now)
    unpriced.recheck(conn, [organization_id])
    late_usage.price_again(conn, organization_id)
