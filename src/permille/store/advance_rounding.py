"""What the fees of events come to precisely, where a charge rounds its fees together: the next fee carries on from it.

A row is of a subscription, a charge and a period. It is read and written in the transaction that writes the fees, under
the lock of the customer, so that it is the sum of the fees that there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.rating.rounding import Earlier
from permille.database.bulk import instant_array, text_array, uuid_array

RoundingKey = tuple[UUID, UUID, datetime, datetime]
"""Subscription, charge and period."""

_PLACES = (
    "unnest(%(subscriptions)s::uuid[], %(charges)s::uuid[], %(froms)s::timestamptz[], %(tos)s::timestamptz[]"
)


def find(conn: Connection[Any], keys: Sequence[RoundingKey]) -> dict[RoundingKey, Earlier]:
    """What the fees of each come to so far; without those that have none."""
    if not keys:
        return {}
    rows = conn.execute(
        "select r.subscription_id, r.charge_id, r.from_at, r.to_at, r.amount_cents, r.in_unit_cents"
        f" from {_PLACES}) as w (subscription_id, charge_id, from_at, to_at)"
        " join advance_rounding r using (subscription_id, charge_id, from_at, to_at)",
        _places(keys),
    )
    return {
        (subscription_id, charge_id, from_at, to_at): Earlier(cents=cents, in_unit_cents=in_unit)
        for subscription_id, charge_id, from_at, to_at, cents, in_unit in rows
    }


def keep(conn: Connection[Any], reached: Mapping[RoundingKey, Earlier]) -> None:
    """Write what the fees of each come to now."""
    if not reached:
        return
    conn.execute(
        "insert into advance_rounding (subscription_id, charge_id, from_at, to_at, amount_cents, in_unit_cents)"
        f" select * from {_PLACES}, %(cents)s::numeric[], %(in_unit)s::numeric[])"
        " on conflict (subscription_id, charge_id, from_at, to_at) do update"
        " set amount_cents = excluded.amount_cents, in_unit_cents = excluded.in_unit_cents",
        {
            **_places(list(reached)),
            "cents": text_array(str(each.cents) for each in reached.values()),
            "in_unit": text_array(str(each.in_unit_cents) for each in reached.values()),
        },
    )


def _places(keys: Sequence[RoundingKey]) -> dict[str, Any]:
    return {
        "subscriptions": uuid_array(key[0] for key in keys),
        "charges": uuid_array(key[1] for key in keys),
        "froms": instant_array(key[2] for key in keys),
        "tos": instant_array(key[3] for key in keys),
    }
