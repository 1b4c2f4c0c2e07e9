"""The PDFs of invoices, kept as long as they show what the invoices say, in a bounded room for each organization."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

BYTES_MAX = 256 * 1024**2
"""Bytes that are kept of an organization; the newest documents stay."""

_KEEP = """
insert into invoice_document (invoice_id, organization_id, digest, content, size, made_at)
values (%(invoice)s, %(organization)s, %(digest)s, %(content)s, %(size)s, %(now)s)
on conflict (invoice_id) do update
set digest = excluded.digest, content = excluded.content, size = excluded.size, made_at = excluded.made_at
"""

_FORGET = """
delete from invoice_document d using (
    select invoice_id, sum(size) over (order by made_at desc, invoice_id) as until_here
    from invoice_document where organization_id = %s) as each
where each.until_here > %s and d.invoice_id = each.invoice_id
"""


def announce(conn: Connection[Any], organization_id: UUID, object_id: UUID, *, now: datetime) -> bool:
    """Write down that a webhook says where the document's PDF is; False where that is so already."""
    done = conn.execute(
        "insert into announced_document (object_id, organization_id, created_at) values (%s, %s, %s)"
        " on conflict (object_id) do nothing",
        [object_id, organization_id, now],
    )
    return done.rowcount == 1


def kept(conn: Connection[Any], invoice_id: UUID, digest: bytes) -> bytes | None:
    """The PDF of the invoice, None unless it shows just this."""
    row = conn.execute(
        "select content from invoice_document where invoice_id = %s and digest = %s", [invoice_id, digest]
    ).fetchone()
    return bytes(row[0]) if row else None


def keep(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    invoice_id: UUID,
    digest: bytes,
    content: bytes,
    now: datetime,
) -> None:
    """Keep a PDF in place of the invoice's earlier one; the oldest go when the organization has too many bytes."""
    conn.execute(
        _KEEP,
        {
            "invoice": invoice_id,
            "organization": organization_id,
            "digest": digest,
            "content": content,
            "size": len(content),
            "now": now,
        },
    )
    conn.execute(_FORGET, [organization_id, BYTES_MAX])
