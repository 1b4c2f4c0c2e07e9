"""What the rows of a run cost by themselves: the same rows by COPY into copies of their tables, in seconds of processors.

`with indexes` is text, as the run writes it, into tables with their indexes; no foreign key, no trigger, nothing computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from psycopg import Connection

_OF_INVOICES = "invoice_id in (select id from invoice where organization_id = %(organization)s)"
_TAKEN = "organization_id = %(organization)s and transaction_type = 'outbound'"
WRITTEN = {
    "invoice": "organization_id = %(organization)s",
    "invoice_subscription": _OF_INVOICES,
    "fee": "organization_id = %(organization)s",
    "webhook": "organization_id = %(organization)s",
    "coupon_credit": _OF_INVOICES,
    "wallet_transaction": _TAKEN,
    "wallet_consumption": f"outbound_id in (select id from wallet_transaction where {_TAKEN})",
}
"""Table -> which of its rows the run of an organization has inserted."""
WAYS = {
    "with indexes": ("including all", "text"),
    "with indexes, binary": ("including all", "binary"),
    "into a heap, binary": ("including defaults including identity", "binary"),
}


def copied(
    conn: Connection[Any], organization_id: UUID, spent: Callable[[Connection[Any]], float]
) -> dict[str, float]:
    """Way -> the seconds that it takes; everything is undone."""
    found = {}
    for way, (like, form) in WAYS.items():
        rows = {table: _read(conn, table, organization_id, form) for table in WRITTEN}
        for table in WRITTEN:
            conn.execute(f"create table benchmark_{table} (like {table} {like})")
        began = spent(conn)
        for table, data in rows.items():
            with conn.cursor().copy(f"copy benchmark_{table} from stdin (format {form})") as copy:
                copy.write(data)
        found[way] = spent(conn) - began
        conn.rollback()
    return found


def _read(conn: Connection[Any], table: str, organization_id: UUID, form: str) -> bytes:
    query = f"copy (select * from {table} where {WRITTEN[table]} order by 1) to stdout (format {form})"
    with conn.cursor().copy(query, {"organization": organization_id}) as copy:
        return b"".join(copy)
