"""Amendments of events: added, never changed (docs/decisions/009)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.metering.amendment import Amendment, AmendmentKind, Replacement
from permille.core.metering.encoding import Encoded, SeriesLayout, encode, is_dimension
from permille.core.metering.event import property_text
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.events.identity import transaction_range
from permille.events.log import AmendmentSearch, CurrentEvent, EventSearch, InPlace, SentEvent, Version
from permille.events.postgres.events import condition_of, values_of
from permille.events.postgres.metering import SeriesKey, intern, lock_cells, note_amendment
from permille.events.postgres.rollup import refold
from permille.events.usage import BEGINNING

_SELECT = """
select a.id, a.transaction_id, a.event_identity, a.event_transaction_id, a.external_subscription_id, a.kind,
    a.reason, a.api_key_id, a.created_at, a.code, a.at, a.precise_total_amount_cents, a.properties,
    (select n.id from event_amendment n where n.event_identity = a.event_identity and n.position > a.position
        order by n.position limit 1)
from event_amendment a
"""

_SENT = """
select w.key, e.identity, s.external_subscription_id, e.seq
from unnest(%(keys)s::int[], %(firsts)s::uuid[], %(lasts)s::uuid[], %(transaction_ids)s::text[])
    as w (key, first, last, transaction_id)
cross join lateral (
    select identity, series_id, seq from sent_event
    where identity between w.first and w.last and transaction_id = w.transaction_id offset 0
) e
join series s on s.id = e.series_id
where s.organization_id = %(organization)s
"""

_ADD = """
insert into event_amendment (
    id, organization_id, transaction_id, event_identity, event_transaction_id, external_subscription_id, kind, reason,
    api_key_id, code, at, precise_total_amount_cents, properties, created_at
)
select w.id, %(organization)s, w.transaction_id, w.event_identity, w.event_transaction_id,
    w.external_subscription_id, w.kind, w.reason, w.api_key_id, w.code, w.at, w.precise, w.properties, w.created_at
from unnest(%(ids)s::uuid[], %(transaction_ids)s::text[], %(identities)s::uuid[], %(event_transaction_ids)s::text[],
        %(subscriptions)s::text[], %(kinds)s::text[], %(reasons)s::text[], %(keys)s::uuid[], %(codes)s::text[],
        %(ats)s::timestamptz[], %(precises)s::numeric[], %(properties)s::jsonb[], %(created_ats)s::timestamptz[])
    with ordinality as w (id, transaction_id, event_identity, event_transaction_id, external_subscription_id, kind,
        reason, api_key_id, code, at, precise, properties, created_at, nth)
order by nth
"""

_PUT_IN_PLACE = """
insert into event (
    seq, series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
) overriding system value
select * from unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::uuid[], %s::numeric[],
    %s::text[], %s::numeric[], %s::jsonb[])
"""

# The row that counts now for each event: its own or that of its last amendment, none when that is a void.
_HEADS = """
select w.identity, case when a.kind is null then w.identity when a.kind = 'replace' then a.id end
from unnest(%s::uuid[]) as w (identity)
left join lateral (
    select id, kind from event_amendment where event_identity = w.identity order by position desc limit 1
) a on true
"""

_CURRENT = """
select w.identity, e.transaction_id, e.at, s.code, case when a.kind is distinct from 'void' then s.external_subscription_id end
from unnest(%s::uuid[]) as w (identity)
left join lateral (
    select id, kind from event_amendment where event_identity = w.identity order by position desc limit 1
) a on true
join event e on e.identity = case when a.kind = 'replace' then a.id else w.identity end
join series s on s.id = e.series_id
"""

# The metering says which property an event's value is; the last amendment, what its subscription's events say.
_REVISIONS = """
select m.version, a.position
from unnest(%s::uuid[], %s::text[], %s::text[]) with ordinality
    as w (organization_id, external_subscription_id, code, nth)
left join metering m on m.organization_id = w.organization_id and m.code = w.code
left join lateral (
    select position from event_amendment where organization_id = w.organization_id
        and external_subscription_id = w.external_subscription_id order by position desc limit 1
) a on true
order by w.nth
"""

# Every row that has ever counted for these events: their own and those of their replacements.
_VERSIONS = """
select a.identity, e.identity, s.external_subscription_id, s.code, e.at
from (
    select distinct event_identity as identity, event_identity as version from event_amendment
    where event_identity = any(%(identities)s)
    union all
    select event_identity, id from event_amendment where event_identity = any(%(identities)s) and kind = 'replace'
) a
join event e on e.identity = a.version
join series s on s.id = e.series_id
"""

_TOUCHING = """
select distinct a.event_identity, coalesce(e.extra, '{}') || s.dimensions
from event_amendment a
cross join lateral (
    select series_id, extra from event
    where (identity = a.event_identity or identity = a.id) and at >= %(from_)s and at < %(to)s offset 0
) e
join series s on s.id = e.series_id
where a.organization_id = %(organization)s and a.external_subscription_id = %(subscription)s and s.code = %(code)s
"""

# What a list of sent events has more than a count of those that count: the amended ones, less their replacements.
_MORE_SENT = """
select
    (select count(*) from (
        select distinct event_identity from event_amendment where organization_id = %(organization_id)s
    ) a join event e on e.identity = a.event_identity join series s on s.id = e.series_id
    where {owned} and e.at >= %(from_)s and e.at < %(to)s)
    - (select count(*) from event_amendment a join counted_event e on e.identity = a.id
        join series s on s.id = e.series_id
    where a.organization_id = %(organization_id)s and a.kind = 'replace' and {owned} and e.at >= %(from_)s and e.at < %(to)s)
"""

# The finalized fees of charges that an instant of a code falls into. Of fees in advance only the event's own.


def begin(conn: Connection[Any], organization_id: UUID) -> None:
    """Wait until nobody rolls up, amends or changes the metering, and keep it so until the transaction ends."""
    lock_cells(conn, organization_id)


def taken(conn: Connection[Any], organization_id: UUID, transaction_ids: Collection[str]) -> set[str]:
    """Those of the transaction ids that an amendment has already."""
    rows = conn.execute(
        "select transaction_id from event_amendment where organization_id = %s and transaction_id = any(%s)",
        [organization_id, list(transaction_ids)],
    ).fetchall()
    return {transaction_id for (transaction_id,) in rows}


def sent_events(
    conn: Connection[Any], organization_id: UUID, transaction_ids: Sequence[str]
) -> list[list[SentEvent]]:
    """For each transaction id the events that were sent with it, one for each subscription."""
    ranges = [transaction_range(organization_id.bytes, each) for each in transaction_ids]
    rows = conn.execute(
        _SENT,
        {
            "organization": organization_id,
            "keys": int_array(range(len(transaction_ids))),
            "firsts": uuid_array(first for first, _ in ranges),
            "lasts": uuid_array(last for _, last in ranges),
            "transaction_ids": text_array(transaction_ids),
        },
    )
    found: list[list[SentEvent]] = [[] for _ in transaction_ids]
    for key, identity, subscription, seq in rows:
        found[key].append(SentEvent(identity=identity, external_subscription_id=subscription, seq=seq))
    return found


def add(
    conn: Connection[Any],
    organization_id: UUID,
    new: Sequence[Amendment],
    in_place: Mapping[UUID, InPlace],
) -> None:
    """Write amendments in their order, and let usage follow; `in_place` is of each replacement, by its id.

    The caller has called `begin` in the same transaction.
    """
    heads = dict(conn.execute(_HEADS, [[each.event_identity for each in new]]).fetchall())
    struck: list[tuple[UUID, UUID]] = []
    for each in new:
        head = heads[each.event_identity]
        if head is not None:
            struck.append((head, each.id))
        heads[each.event_identity] = each.id if each.replacement else None
    _add_rows(conn, organization_id, new)
    places = _put_in_place(conn, organization_id, [each for each in new if each.replacement], in_place)
    conn.execute(
        "insert into struck_event (identity, amendment_id) select * from unnest(%s::uuid[], %s::uuid[])",
        [uuid_array(identity for identity, _ in struck), uuid_array(by for _, by in struck)],
    )
    places |= set(
        conn.execute(
            "select series_id, at from event where identity = any(%s::uuid[])",
            [uuid_array(identity for identity, _ in struck)],
        ).fetchall()
    )
    refold(conn, places)
    note_amendment(conn, organization_id)


def _add_rows(conn: Connection[Any], organization_id: UUID, new: Sequence[Amendment]) -> None:
    says = [each.replacement for each in new]
    conn.execute(
        _ADD,
        {
            "organization": organization_id,
            "ids": [each.id for each in new],
            "transaction_ids": [each.transaction_id for each in new],
            "identities": [each.event_identity for each in new],
            "event_transaction_ids": [each.event_transaction_id for each in new],
            "subscriptions": [each.external_subscription_id for each in new],
            "kinds": [each.kind.value for each in new],
            "reasons": [each.reason for each in new],
            "keys": [each.api_key_id for each in new],
            "codes": [each and each.code for each in says],
            "ats": instant_array(each.at if each else None for each in says),
            "precises": [each and each.precise_total_amount_cents for each in says],
            "properties": [each and Jsonb(each.properties) for each in says],
            "created_ats": [each.created_at for each in new],
        },
    )


def _put_in_place(
    conn: Connection[Any],
    organization_id: UUID,
    new: Sequence[Amendment],
    in_place: Mapping[UUID, InPlace],
) -> set[tuple[int, datetime]]:
    """Store what replacements say as events; the series and instants that they count in."""
    encoded: list[Encoded] = []
    keys: list[SeriesKey] = []
    meterings: dict[SeriesKey, SeriesLayout] = {}
    says = [each.replacement for each in new if each.replacement is not None]
    for each, replacement in zip(new, says, strict=True):
        how = in_place[each.id].metering
        one = encode(how, in_place[each.id].properties)
        key = SeriesKey(
            organization_id.bytes, each.external_subscription_id, replacement.code, how.version, one.series
        )
        encoded.append(one)
        keys.append(key)
        meterings[key] = how
    ids = intern(conn, meterings)
    conn.execute(
        _PUT_IN_PLACE,
        [
            [in_place[each.id].seq for each in new],
            [ids[key] for key in keys],
            [each.at for each in says],
            [each.created_at for each in new],
            [each.id for each in new],
            [one.value for one in encoded],
            [each.event_transaction_id for each in new],
            [each.precise_total_amount_cents for each in says],
            [None if one.extra is None else Jsonb(one.extra) for one in encoded],
        ],
    )
    return {(ids[key], each.at) for key, each in zip(keys, says, strict=True)}


def listing(
    conn: Connection[Any], search: AmendmentSearch, *, limit: int, offset: int
) -> tuple[list[Amendment], int]:
    """Amendments, newest first, and how many there are."""
    conditions = {
        "a.organization_id = %s": search.organization_id,
        "a.event_transaction_id = %s": search.event_transaction_id,
        "a.external_subscription_id = %s": search.external_subscription_id,
        "a.kind = %s": search.kind,
        "a.created_at >= %s": search.from_,
        "a.created_at <= %s": search.to,
    }
    where = " and ".join(text for text, value in conditions.items() if value is not None)
    values = [value for value in conditions.values() if value is not None]
    rows = conn.execute(
        f"{_SELECT} where {where} order by a.position desc limit %s offset %s", [*values, limit, offset]
    )
    found = [_read(row) for row in rows]
    row = conn.execute(f"select count(*) from event_amendment a where {where}", values).fetchone()
    return found, row[0] if row else 0


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> list[Amendment]:
    """Amendments in the order in which they were made."""
    rows = conn.execute(f"{_SELECT} where a.id = any(%s) order by a.position", [list(ids)])
    return [_read(row) for row in rows]


def of_events(conn: Connection[Any], identities: Collection[UUID]) -> dict[UUID, list[Amendment]]:
    """The amendments of events, in their order, by the identity of the row asked for: own or a replacement's."""
    rows = conn.execute(
        "select w.identity, coalesce(r.event_identity, w.identity) from unnest(%s::uuid[]) as w (identity)"
        " left join event_amendment r on r.id = w.identity",
        [uuid_array(identities)],
    ).fetchall()
    chains: dict[UUID, list[Amendment]] = defaultdict(list)
    asked = [event_identity for _, event_identity in rows]
    for row in conn.execute(f"{_SELECT} where a.event_identity = any(%s) order by a.position", [asked]):
        amendment = _read(row)
        chains[amendment.event_identity].append(amendment)
    return {identity: chains[event_identity] for identity, event_identity in rows if event_identity in chains}


def _read(row: tuple[Any, ...]) -> Amendment:
    code, at, precise, properties = row[9:13]
    kind = AmendmentKind(row[5])
    return Amendment(
        id=row[0],
        transaction_id=row[1],
        event_identity=row[2],
        event_transaction_id=row[3],
        external_subscription_id=row[4],
        kind=kind,
        reason=row[6],
        api_key_id=row[7],
        created_at=row[8],
        replacement=Replacement(code=code, at=at, precise_total_amount_cents=precise, properties=properties)
        if kind is AmendmentKind.REPLACE
        else None,
        superseded_by=row[13],
    )


def current(conn: Connection[Any], identities: Collection[UUID]) -> dict[UUID, CurrentEvent]:
    """Sent events as they are now, by the identities that they were sent under."""
    return {row[0]: CurrentEvent(*row[1:]) for row in conn.execute(_CURRENT, [uuid_array(identities)])}


def revisions(conn: Connection[Any], of: Sequence[tuple[UUID, str, str]]) -> list[str]:
    """For each organization, external subscription id and code, a text that changes when stored events mean something else."""
    rows = conn.execute(
        _REVISIONS,
        [
            uuid_array(organization_id for organization_id, _, _ in of),
            text_array(external_id for _, external_id, _ in of),
            text_array(code for _, _, code in of),
        ],
    )
    return [f"{version} {position}" for version, position in rows]


def versions(conn: Connection[Any], identities: Collection[UUID]) -> list[Version]:
    """Every row that counts or has counted for these amended events."""
    rows = conn.execute(_VERSIONS, {"identities": list(identities)})
    return [Version(*row) for row in rows]


def touching(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_subscription_id: str,
    code: str,
    from_: datetime | None,
    to: datetime,
) -> list[tuple[UUID, dict[str, str | None]]]:
    """The amended events of which any version is of the code and in [from_, to), with that version's property texts."""
    rows = conn.execute(
        _TOUCHING,
        {
            "organization": organization_id,
            "subscription": external_subscription_id,
            "code": code,
            "from_": from_ or BEGINNING,
            "to": to,
        },
    )
    return [
        (identity, {name: property_text(value) for name, value in properties.items() if is_dimension(value)})
        for identity, properties in rows
    ]


def count_more_sent(
    conn: Connection[Any], search: EventSearch, *, from_: datetime | None, to: datetime
) -> int:
    """How many events of a search in [from_, to) were sent, more than count. It may be negative."""
    row = conn.execute(
        _MORE_SENT.format(owned=condition_of(search)),
        {**values_of(search), "from_": from_ or BEGINNING, "to": to},
    ).fetchone()
    return int(row[0]) if row else 0
