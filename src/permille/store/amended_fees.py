"""The fees that events may be part of, for those who amend them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.database.bulk import instant_array, int_array, text_array

_FEES = """
select distinct w.key, f.id
from unnest(%(keys)s::int[], %(subscriptions)s::text[], %(codes)s::text[], %(ats)s::timestamptz[],
        %(transaction_ids)s::text[]) as w (key, external_subscription_id, code, at, transaction_id)
join subscription s on s.organization_id = %(organization)s and s.external_id = w.external_subscription_id
join fee f on f.subscription_id = s.id
join charge c on c.id = f.charge_id
join billable_metric m on m.id = c.billable_metric_id and m.code = w.code
left join invoice i on i.id = f.invoice_id
where f.fee_type = 'charge' and w.at < f.to_at and (m.recurring or w.at >= f.from_at)
    and (i.status = 'finalized' and i.voided_invoice_id is null or f.invoice_id is null)
    and (f.event_transaction_id is null or f.event_transaction_id = w.transaction_id)
"""


class EventPlace(NamedTuple):
    """Where an event counts, or has counted."""

    transaction_id: str
    external_subscription_id: str | None
    code: str
    at: datetime


def of_events(conn: Connection[Any], organization_id: UUID, places: Sequence[EventPlace]) -> list[set[UUID]]:
    """For each place of an event, the final fees that it may be part of.

    Those of an invoice that replaces a voided one are what somebody has agreed to: no event changes them.
    """
    found: list[set[UUID]] = [set() for _ in places]
    rows = conn.execute(
        _FEES,
        {
            "organization": organization_id,
            "keys": int_array(range(len(places))),
            "subscriptions": [each.external_subscription_id for each in places],
            "codes": text_array(each.code for each in places),
            "ats": instant_array(each.at for each in places),
            "transaction_ids": text_array(each.transaction_id for each in places),
        },
    )
    for key, fee_id in rows:
        found[key].add(fee_id)
    return found
