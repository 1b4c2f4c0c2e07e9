"""Final invoices that were billed by prices of the catalogue which a version has corrected since."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.database.bulk import uuid_array

_CORRECTED = """
from invoice i
where i.id in (
    select invoice_id from fee
    where organization_id = %(organization)s and to_at > %(from_at)s and amount_details ? 'catalogue'
)
and i.organization_id = %(organization)s and i.status = 'finalized' and coalesce(i.finalized_at, i.created_at) <= %(until)s
"""

_CORRECTED_SINCE_FINAL = """
select i.id from invoice i
where i.id = any(%s) and exists (
    select from catalogue_version v
    where v.organization_id = i.organization_id and v.approved_at >= coalesce(i.finalized_at, i.created_at)
        and v.valid_from is not null and exists (
            select from fee f where f.invoice_id = i.id and f.to_at > v.valid_from::timestamp at time zone 'UTC'
        )
)
"""


def corrected(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    from_at: datetime,
    until: datetime,
    limit: int,
    offset: int,
) -> tuple[list[UUID], int]:
    """Invoices that were final until an instant, with usage by the catalogue after another: a page, and how many there are."""
    values = {
        "organization": organization_id,
        "from_at": from_at,
        "until": until,
        "limit": limit,
        "offset": offset,
    }
    rows = conn.execute(
        f"select i.id {_CORRECTED} order by i.created_at desc, i.id desc limit %(limit)s offset %(offset)s",
        values,
    ).fetchall()
    row = conn.execute(f"select count(*) {_CORRECTED}", values).fetchone()
    return [invoice_id for (invoice_id,) in rows], row[0] if row else 0


def corrected_since_final(conn: Connection[Any], invoice_ids: Collection[UUID]) -> set[UUID]:
    """Those of the invoices with usage of which a price was approved since they were final, whether it is another or not."""
    rows = conn.execute(_CORRECTED_SINCE_FINAL, [uuid_array(invoice_ids)]).fetchall()
    return {invoice_id for (invoice_id,) in rows}


def credited_of_fees(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, int]:
    """Fee -> what came back of it for corrected prices, in cents before taxes, where anything did."""
    rows = conn.execute(
        "select t.fee_id, sum(t.amount_cents)::bigint from credit_note_item t join credit_note n on n.id = t.credit_note_id"
        " where t.fee_id = any(%s) and n.catalogue_version_id is not null group by t.fee_id",
        [list(fee_ids)],
    ).fetchall()
    return dict(rows)
