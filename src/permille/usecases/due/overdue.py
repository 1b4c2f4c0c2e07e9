"""Invoices that are not paid by the end of their due date are overdue.

Source: semantics-billing.md section 4.10.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.store import due, dunning, payments, webhooks
from permille.usecases.due.kind import DueKind


def _mark(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    del now
    found = due.claim_overdue(conn, organization_id, until=at, limit=limit, wait=wait)
    if found:
        payments.set_overdue(conn, found, now=at)
        dunning.wake(conn, found, now=at)
        webhooks.enqueue_of(conn, "invoice.payment_overdue", organization_id, found, now=at)
    return len(found)


OVERDUE = DueKind(
    first=lambda conn, organization_id, until: due.first_overdue(conn, organization_id, until=until),
    live=lambda conn, until: due.live_with_overdue(conn, until=until),
    do=_mark,
)
