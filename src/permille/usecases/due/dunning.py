"""Customers with overdue invoices are asked to pay them, as their dunning campaign says."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.store import due
from permille.usecases import dunning
from permille.usecases.due.kind import DueKind


def _ask(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    return dunning.run_due(conn, organization_id, at=at, limit=limit, wait=wait, now=now)


DUNNING = DueKind(
    first=lambda conn, organization_id, until: due.first_dunning(conn, organization_id, until=until),
    live=lambda conn, until: due.live_with_dunning(conn, until=until),
    do=_ask,
)
