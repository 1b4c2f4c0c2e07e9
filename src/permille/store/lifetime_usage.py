"""What usage was invoiced of the rows of a subscription's life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.database.bulk import instant_array, int_array, uuid_array

# Added up by invoice first: the invoices of a life are few, its fees may be many. fee_of_subscription finds them;
# "offset 0" makes the planner look each invoice up by its id, and not read them all.
_INVOICED = """
with own as materialized (
    select l.life, f.invoice_id, sum(f.amount_cents) as cents
    from unnest(%(lives)s::int[], %(ids)s::uuid[], %(running_from)s::timestamptz[]) as l (life, id, running_from)
    cross join lateral (
        select invoice_id, amount_cents from fee
        where subscription_id = l.id and fee_type = 'charge' and invoice_id is not null
            and (to_at > l.running_from) is not true
        offset 0
    ) f
    group by 1, 2
)
select own.life, sum(own.cents) from own cross join lateral (
    select invoice_type, status from invoice where id = own.invoice_id offset 0
) i
where i.invoice_type = 'subscription' and i.status in ('draft', 'finalized')
group by 1
"""

Life = Mapping[UUID, datetime | None]
"""The rows of a subscription's life, and the start of the period that is running of the one that is active."""


def invoiced_cents(conn: Connection[Any], lives: Sequence[Life]) -> list[int]:
    """Usage on the drafts and final invoices of each life, without taxes.

    What was billed for the running period is left out, since it is current: what was paid in advance, and a bill that
    was made after the current usage was read.
    """
    rows = [(number, row_id, from_) for number, life in enumerate(lives) for row_id, from_ in life.items()]
    values = {
        "lives": int_array(number for number, _, _ in rows),
        "ids": uuid_array(row_id for _, row_id, _ in rows),
        "running_from": instant_array(from_ for _, _, from_ in rows),
    }
    found = {number: int(cents) for number, cents in conn.execute(_INVOICED, values)}
    return [found.get(number, 0) for number in range(len(lives))]
