"""Subscriptions are billed at the ends of their periods and of their trials."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.store import due
from permille.store.due import Instant
from permille.usecases.due.kind import DueKind
from permille.usecases.invoices import run


def _bill(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    return run.bill_due(conn, organization_id=organization_id, until=at, limit=limit, wait=wait, now=now)


BILLS = DueKind(
    first=lambda conn, organization_id, until: due.first_of_subscriptions(
        conn, organization_id, Instant.BILL, until=until
    ),
    live=lambda conn, until: due.live_of_subscriptions(conn, Instant.BILL, until=until),
    do=_bill,
)
