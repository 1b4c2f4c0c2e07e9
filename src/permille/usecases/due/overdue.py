"""Invoices that are not paid by the end of their due date are overdue.

Source: semantics-billing.md section 4.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.store import due, dunning, payments, webhooks
from permille.usecases import holds
from permille.usecases.due.kind import DueKind


def _mark(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    payers = due.claim_overdue(conn, organization_id, until=at, limit=limit, wait=wait)

    def mark(some: Sequence[UUID]) -> None:
        payments.set_overdue(conn, some, now=at)
        dunning.wake(conn, some, now=at)
        webhooks.enqueue_of(conn, "invoice.payment_overdue", organization_id, some, now=at)

    return holds.do_due(
        conn,
        organization_id,
        list(payers),
        mark,
        customer_of=payers.__getitem__,
        named=lambda invoice_id: {"lago_invoice_id": str(invoice_id)},
        at=at,
        now=now,
    )


OVERDUE = DueKind(
    first=lambda conn, organization_id, until: due.first_overdue(conn, organization_id, until=until),
    live=lambda conn, until: due.live_with_overdue(conn, until=until),
    do=_mark,
)
