"""What usage was invoiced of the rows of a subscription's life."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

# Added up by invoice first: the invoices of a life are few, its fees may be many. fee_of_subscription finds them;
# "offset 0" makes the planner look each invoice up by its id, and not read them all.
_INVOICED = """
with own as materialized (
    select invoice_id, sum(amount_cents) as cents from fee
    where subscription_id = any(%(ids)s) and fee_type = 'charge' and invoice_id is not null
        and (subscription_id = %(running)s and pay_in_advance and to_at > %(running_from)s) is not true
    group by invoice_id
)
select coalesce(sum(own.cents), 0) from own cross join lateral (
    select invoice_type, status from invoice where id = own.invoice_id offset 0
) i
where i.invoice_type = 'subscription' and i.status in ('draft', 'finalized')
"""


def invoiced_cents(
    conn: Connection[Any],
    ids: Collection[UUID],
    *,
    running: UUID | None = None,
    running_from: datetime | None = None,
) -> int:
    """Usage on the drafts and final invoices of these rows, without taxes.

    What the `running` row has paid in advance for the period from `running_from` on is left out: it is current.
    """
    values = {"ids": list(ids), "running": running, "running_from": running_from}
    row = conn.execute(_INVOICED, values).fetchone()
    return int(row[0]) if row else 0
