"""Events of what is paid in advance: those that wait for their fee, and those that a fee is priced by."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.contract.plan import Charge
from permille.core.metering.encoding import Metering, dimensions_of, encode
from permille.core.metering.event import is_add, property_text, property_texts
from permille.core.metering.usage import AdvanceEvent
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_json
from permille.events.postgres.custom_usage import texts_of
from permille.events.postgres.metering import PROPERTIES, being_rebuilt
from permille.events.postgres.rollup import settled_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An event that waits for its fee, with the subscription that ran at its time, None without one.

    What a replacement says, if it was amended since; a voided one has no subscription.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceWindow:
    """The events of one code of a subscription in [from_, to) that have arrived after `after_seq`, up to `until_seq`.

    `field_name` is that of a unique count; `passed` says how many of the period's events came before `after_seq`.
    """

    organization_id: UUID
    external_subscription_id: str
    code: str
    field_name: str | None
    from_: datetime
    to: datetime
    until_seq: int
    after_seq: int = 0
    passed: int = 0
    names: tuple[str, ...] = ()
    """The properties that the rules of a custom aggregation look at."""


_WAITING = """
select q.seq, q.identity, q.due_at, q.charge_ids, h.customer_id is not null as is_held, e.transaction_id, e.at, s.code,
    r.id as subscription_id, r.customer_id
from (
    select organization_id, seq, identity, due_at, charge_ids from advance_event
    where organization_id = %(organization)s and seq <= %(settled)s order by seq limit %(limit)s
) q
left join lateral (
    select id, kind from event_amendment where event_identity = q.identity order by position desc limit 1
) a on true
join event e on e.identity = case when a.kind = 'replace' then a.id else q.identity end
join series s on s.id = e.series_id
left join lateral (
    select id, customer_id from subscription
    where organization_id = q.organization_id and external_id = s.external_subscription_id
        and status in ('active', 'terminated') and started_at <= e.at
        and (terminated_at is null or terminated_at >= e.at) and a.kind is distinct from 'void'
    order by terminated_at desc nulls first, started_at desc limit 1
) r on true
left join billing_hold h on h.customer_id = r.customer_id and h.retry_at is not null
order by q.seq
"""

_WINDOWS = """
with w as materialized (
    select * from unnest(%(keys)s::int[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[],
            %(fields)s::text[], %(names)s::jsonb[], %(froms)s::timestamptz[], %(tos)s::timestamptz[],
            %(afters)s::bigint[], %(untils)s::bigint[], %(rebuilt)s::boolean[])
        as w (key, organization_id, external_subscription_id, code, field_name, names, from_at, to_at, after_seq,
            until_seq, is_rebuilt)
), wanted as materialized (
    select w.*, s.* from w cross join lateral (
        select id, dimensions, value_key, value_is_text from series where organization_id = w.organization_id
            and external_subscription_id = w.external_subscription_id and code = w.code offset 0
    ) s
)
"""

# While a code's history is moved to another encoding, its series do not tell everything: then the event does.
_TOLD = f"""
select s.key, e.seq, e.at, e.value, coalesce(e.precise_total_amount_cents, 0), s.dimensions,
    coalesce(e.extra ->> s.field_name, s.dimensions ->> s.field_name),
    coalesce(e.extra ->> 'operation_type', s.dimensions ->> 'operation_type', 'add'),
    case when s.names <> '[]' then {texts_of("s")} else '{{}}' end,
    case when s.is_rebuilt then {PROPERTIES} end
"""

_BY_SERIES = f"""
{_WINDOWS}
{_TOLD}
from wanted s cross join lateral (
    select seq, at, value, precise_total_amount_cents, extra from counted_event
    where series_id = s.id and at >= s.from_at and at < s.to_at and seq > s.after_seq and seq <= s.until_seq offset 0
) e
order by s.key, e.seq
"""

# "id + 0" keeps the planner from walking through all events of a series to find the few new ones.
_BY_ARRIVAL = f"""
{_WINDOWS}
, tail as materialized (
    select series_id, seq, at, value, precise_total_amount_cents, extra from counted_event
    where seq > %(least)s and seq <= %(most)s and (series_id + 0) in (select id from wanted)
)
{_TOLD}
from wanted s join tail e on e.series_id = s.id
    and e.at >= s.from_at and e.at < s.to_at and e.seq > s.after_seq and e.seq <= s.until_seq
order by s.key, e.seq
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


def is_any_waiting(conn: Connection[Any], organization_id: UUID, customer_id: UUID | None = None) -> bool:
    """Whether any event of the organization waits for its fee, those included that are held of a customer."""
    row = conn.execute(
        "select exists (select from advance_event where organization_id = %s)"
        " or exists (select from held_advance_event where customer_id = %s)",
        [organization_id, customer_id],
    ).fetchone()
    return bool(row and row[0])


def park(conn: Connection[Any], events: Sequence[Waiting], *, now: datetime) -> None:
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
    events: Sequence[tuple[Waiting, Sequence[UUID]]],
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


def claim(conn: Connection[Any], organization_id: UUID, *, limit: int, wait: bool) -> list[Waiting]:
    """Take the first `limit` events off the queue, with their customers locked, in the order of arrival.

    Those of customers that someone else has locked stay, unless told to wait.
    """
    parameters = {"organization": organization_id, "settled": settled_seq(conn), "limit": limit}
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        waiting = cursor.execute(_WAITING, parameters).fetchall()
    payers = {each.customer_id for each in waiting if each.customer_id}
    locked = {
        customer_id
        for (customer_id,) in conn.execute(
            "select id from customer where id = any(%s) order by id for no key update"
            + ("" if wait else " skip locked"),
            [list(payers)],
        )
    }
    mine = [each.seq for each in waiting if each.customer_id is None or each.customer_id in locked]
    rows = conn.execute(
        "delete from advance_event where organization_id = %s and seq = any(%s) returning seq",
        [organization_id, mine],
    ).fetchall()
    taken = {seq for (seq,) in rows}
    return [each for each in waiting if each.seq in taken]


def events_of(conn: Connection[Any], windows: Sequence[AdvanceWindow]) -> list[list[AdvanceEvent]]:
    """The events of each window in the order of arrival.

    They are looked for among all that arrived since a window's first, or among all of its period: where fewer are.
    """
    found: list[list[AdvanceEvent]] = [[] for _ in windows]
    rebuilt = being_rebuilt(conn, {each.organization_id for each in windows})
    last = _last_seq(conn)
    since = [min(each.until_seq, last) - each.after_seq for each in windows]
    near = [key for key, each in enumerate(windows) if since[key] <= each.passed]
    far = [key for key, each in enumerate(windows) if since[key] > each.passed]
    for statement, keys in ((_BY_SERIES, far), (_BY_ARRIVAL, near)):
        if not keys:
            continue
        if statement is _BY_ARRIVAL:
            conn.execute("select set_config('enable_seqscan', 'off', true)")
        for row in conn.execute(statement, _parameters(windows, keys, rebuilt)):
            window = windows[row[0]]
            how = rebuilt.get((window.organization_id, window.code))
            found[row[0]].append(_event(row) if how is None else _event_anew(row, window, how))
    return found


def _last_seq(conn: Connection[Any]) -> int:
    """Of any event: all that have arrived have at most this one."""
    row = conn.execute("select last_value from event_seq_seq").fetchone()
    assert row is not None, "a sequence has its one row"
    return int(row[0])


def _parameters(
    windows: Sequence[AdvanceWindow], keys: Sequence[int], rebuilt: Container[tuple[UUID, str]]
) -> dict[str, Any]:
    chosen = [windows[key] for key in keys]
    return {
        "keys": int_array(keys),
        "organizations": uuid_array(each.organization_id for each in chosen),
        "subscriptions": text_array(each.external_subscription_id for each in chosen),
        "codes": text_array(each.code for each in chosen),
        "fields": [each.field_name for each in chosen],
        "names": text_array(exact_json(each.names) for each in chosen),
        "froms": instant_array(each.from_ for each in chosen),
        "tos": instant_array(each.to for each in chosen),
        "afters": int_array(each.after_seq for each in chosen),
        "untils": int_array(each.until_seq for each in chosen),
        "rebuilt": [(each.organization_id, each.code) in rebuilt for each in chosen],
        "least": min(each.after_seq for each in chosen),
        "most": max(each.until_seq for each in chosen),
    }


def _event(row: tuple[Any, ...]) -> AdvanceEvent:
    _, seq, at, value, precise, dimensions, text, operation, texts, _ = row
    return AdvanceEvent(
        seq=seq,
        at=at,
        dimensions=property_texts(dimensions),
        value=value,
        text=text,
        is_add=is_add(operation),
        precise_amount_cents=precise,
        texts=tuple(texts),
    )


def _event_anew(row: tuple[Any, ...], window: AdvanceWindow, metering: Metering) -> AdvanceEvent:
    """As the present metering takes it, whatever the series it is in."""
    properties = row[-1]
    encoded = encode(metering, properties)
    return replace(
        _event(row),
        dimensions=property_texts(dimensions_of(metering, encoded.series[:-1])),
        value=None if encoded.value is None else Decimal(encoded.value),
        text=property_text(properties.get(window.field_name or "")),
    )
