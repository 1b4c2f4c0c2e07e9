"""The webhooks that say where the PDF of a document can be fetched: each once, however often that is asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection

from permille.store import invoice_documents, webhooks


def announce(
    conn: Connection[Any],
    organization_id: UUID,
    kind: Literal["invoice", "credit_note"],
    object_id: UUID,
    *,
    now: datetime,
) -> None:
    """Queue `invoice.generated` or `credit_note.generated`, unless that was done before."""
    if invoice_documents.announce(conn, organization_id, object_id, now=now):
        webhooks.enqueue_of(conn, f"{kind}.generated", organization_id, [object_id], now=now)
