"""Drafts become final at the end of their grace period."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.store import due
from permille.usecases.due.kind import DueKind
from permille.usecases.invoices import drafts


def _finalize(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    return drafts.finalize_due(conn, organization_id, until=at, limit=limit, wait=wait, now=now)


DRAFTS = DueKind(
    first=lambda conn, organization_id, until: due.first_of_drafts(conn, organization_id, until=until),
    live=lambda conn, until: due.live_of_drafts(conn, until=until),
    do=_finalize,
)
