"""The queue of events that wait for their fee, and those of it that were put aside. The log of events puts them in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Charge
from permille.core.record import Record
from permille.database.bulk import instant_array, int_array, text_array, uuid_array


class WaitingEvent(Record, kw_only=True):
    """An event that waits for its fee, with the subscription that ran at its time, None without one.

    What its replacement says, if it was amended since; a voided one has no subscription.
    """

    seq: int
    identity: UUID
    due_at: datetime | None
    """When its fee would have been made, of an event that was held."""
    is_held: bool
    """Whether its customer is."""
    transaction_id: str
    at: datetime
    code: str
    subscription_id: UUID | None
    customer_id: UUID | None
    charge_ids: list[UUID] | None = None
    """The charges that have not billed it yet, where others have; None: all of them."""

    def is_billed_by(self, charge: Charge) -> bool:
        """Whether it waits for the charge's fee; a subscription's own copy of a charge takes its place."""
        return self.charge_ids is None or charge.id in self.charge_ids or charge.parent_id in self.charge_ids


class Queued(NamedTuple):
    """A place in the queue."""

    seq: int
    identity: UUID
    due_at: datetime | None
    charge_ids: list[UUID] | None


class Payer(NamedTuple):
    """Who pays for an event: the subscription that ran at its time."""

    subscription_id: UUID
    customer_id: UUID
    is_held: bool


_PAYERS = """
select w.key, r.id, r.customer_id, h.customer_id is not null
from unnest(%(keys)s::int[], %(external_ids)s::text[], %(ats)s::timestamptz[]) as w (key, external_id, at)
cross join lateral (
    select id, customer_id from subscription
    where organization_id = %(organization)s and external_id = w.external_id
        and status in ('active', 'terminated') and started_at <= w.at
        and (terminated_at is null or terminated_at >= w.at)
    order by terminated_at desc nulls first, started_at desc limit 1
) r
left join billing_hold h on h.customer_id = r.customer_id and h.retry_at is not null
"""


def organizations_waiting(conn: Connection[Any], *, now: datetime) -> list[UUID]:
    """The organizations with an event that waits for its fee, or with held ones that are to be tried again, in any order."""
    rows = conn.execute(
        "select id from organization o where exists (select from advance_event where organization_id = o.id)"
        " or exists (select from unpriced_advance_event where organization_id = o.id"
        "   and retry_at <= coalesce(o.test_now, %(now)s))"
        " or exists (select from billing_hold h where organization_id = o.id"
        "   and retry_at <= coalesce(o.test_now, %(now)s)"
        "   and exists (select from held_advance_event where customer_id = h.customer_id))",
        {"now": now},
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def is_any_waiting(conn: Connection[Any], organization_id: UUID, customer_ids: Collection[UUID] = ()) -> bool:
    """Whether any event of the organization waits for its fee, those included that are held of these customers."""
    row = conn.execute(
        "select exists (select from advance_event where organization_id = %s)"
        " or exists (select from held_advance_event where customer_id = any(%s::uuid[]))",
        [organization_id, uuid_array(customer_ids)],
    ).fetchone()
    return bool(row and row[0])


def park(conn: Connection[Any], events: Sequence[WaitingEvent], *, now: datetime) -> None:
    """Put events that were taken off the queue aside, as their customers are held."""
    conn.execute(
        "insert into held_advance_event (customer_id, organization_id, seq, identity, due_at, charge_ids)"
        " select w.customer_id, c.organization_id, w.seq, w.identity, w.due_at, w.charge_ids::uuid[]"
        " from unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::timestamptz[], %s::text[])"
        " as w (customer_id, seq, identity, due_at, charge_ids) join customer c on c.id = w.customer_id",
        [
            uuid_array(each.customer_id for each in events if each.customer_id),
            int_array(each.seq for each in events),
            uuid_array(each.identity for each in events),
            instant_array(each.due_at or now for each in events),
            [None if each.charge_ids is None else uuid_array(each.charge_ids) for each in events],
        ],
    )


def hold_unpriced(
    conn: Connection[Any],
    organization_id: UUID,
    events: Sequence[tuple[WaitingEvent, Sequence[UUID]]],
    *,
    now: datetime,
    retry_at: datetime,
) -> None:
    """Put events aside whose usage has no price under these charges."""
    conn.execute(
        "insert into unpriced_advance_event (organization_id, seq, identity, charge_ids, due_at, retry_at)"
        " select %(organization)s, w.seq, w.identity, w.charge_ids::uuid[], w.due_at, %(retry_at)s"
        " from unnest(%(seqs)s::bigint[], %(identities)s::uuid[], %(charges)s::text[], %(dues)s::timestamptz[])"
        " as w (seq, identity, charge_ids, due_at)",
        {
            "organization": organization_id,
            "retry_at": retry_at,
            "seqs": int_array(event.seq for event, _ in events),
            "identities": uuid_array(event.identity for event, _ in events),
            "charges": [uuid_array(charge_ids) for _, charge_ids in events],
            "dues": instant_array(event.due_at or now for event, _ in events),
        },
    )


def release_unpriced(conn: Connection[Any], organization_id: UUID, *, until: datetime | None) -> None:
    """Put events back whose usage had no price: those whose time for it has come, or without one all."""
    conn.execute(
        "with back as ("
        "   delete from unpriced_advance_event where organization_id = %(organization)s"
        "   and retry_at <= coalesce(%(until)s, 'infinity'::timestamptz)"
        "   returning organization_id, seq, identity, due_at, charge_ids"
        " ) insert into advance_event (organization_id, seq, identity, due_at, charge_ids) select * from back",
        {"organization": organization_id, "until": until},
    )


def first(conn: Connection[Any], organization_id: UUID, *, until: int, limit: int) -> list[Queued]:
    """The events that have waited the longest, of those up to a seq."""
    rows = conn.execute(
        "select seq, identity, due_at, charge_ids from advance_event"
        " where organization_id = %s and seq <= %s order by seq limit %s",
        [organization_id, until, limit],
    )
    return [Queued(*row) for row in rows]


def payers(
    conn: Connection[Any], organization_id: UUID, events: Sequence[tuple[str, datetime]]
) -> dict[int, Payer]:
    """For the index of an event, of its external subscription id and time, who pays for it, if anybody."""
    rows = conn.execute(
        _PAYERS,
        {
            "organization": organization_id,
            "keys": int_array(range(len(events))),
            "external_ids": text_array(external_id for external_id, _ in events),
            "ats": instant_array(at for _, at in events),
        },
    )
    return {key: Payer(*payer) for key, *payer in rows}


def take(
    conn: Connection[Any], organization_id: UUID, waiting: Sequence[WaitingEvent], *, wait: bool
) -> list[WaitingEvent]:
    """Take events off the queue, with their customers locked.

    Those of customers that another worker has locked stay, unless `wait` is set.
    """
    locked = {
        customer_id
        for (customer_id,) in conn.execute(
            "select id from customer where id = any(%s) order by id for no key update"
            + ("" if wait else " skip locked"),
            [list({each.customer_id for each in waiting if each.customer_id})],
        )
    }
    mine = [each.seq for each in waiting if each.customer_id is None or each.customer_id in locked]
    rows = conn.execute(
        "delete from advance_event where organization_id = %s and seq = any(%s) returning seq",
        [organization_id, mine],
    ).fetchall()
    taken = {seq for (seq,) in rows}
    return [each for each in waiting if each.seq in taken]
