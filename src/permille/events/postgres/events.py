"""Events: as they were sent, one by its transaction id or the newest first; and as they count, behind a fee."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row, dict_row

from permille.database.bulk import hex_array, text_array
from permille.events.identity import claim, event_identities, transaction_bounds, transaction_range
from permille.events.log import CountedEvents, Digest, EventPosition, EventSearch, StoredEvent
from permille.events.postgres.metering import PROPERTIES
from permille.events.usage import BEGINNING

EVENT_COLUMNS = f"""
e.identity, e.transaction_id, s.external_subscription_id, s.code, e.at, e.created_at, e.precise_total_amount_cents,
{PROPERTIES} as properties
"""

_ONE = f"""
select {EVENT_COLUMNS} from sent_event e join series s on s.id = e.series_id
where e.identity between %s and %s and s.organization_id = %s and e.transaction_id = %s
order by e.at desc limit 1
"""

# Fenced: else the ids are joined with all events there are, since they are few and a range may be wide.
_KNOWN = """
select t.name
from unnest(%s::text[], %s::uuid[], %s::uuid[], %s::uuid[]) as t (name, claim, first, last)
cross join lateral (
    select from counted_once where identity = t.claim
    union all
    select from event where identity between t.first and t.last and transaction_id = t.name
    limit 1
) e
"""

# For each series its newest events in the window through the index; then the newest of them all.
_PAGE = f"""
with found as materialized (
    select e.* from unnest(%(series)s::bigint[]) as w (id)
    cross join lateral (
        select * from sent_event
        where series_id = w.id and at >= %(from_)s and at < %(to)s
        order by at desc, transaction_id limit %(reach)s
    ) e
    order by e.at desc, e.transaction_id limit %(limit)s offset %(offset)s
)
select {EVENT_COLUMNS} from found e join series s on s.id = e.series_id
order by e.at desc, e.transaction_id
"""

# As _PAGE, the oldest first and from an event on.
_AFTER = f"""
with found as materialized (
    select e.* from unnest(%(series)s::bigint[]) as w (id)
    cross join lateral (
        select * from counted_event
        where series_id = w.id and at >= %(from_)s and at < %(to)s and (at, identity) > (%(at)s, %(identity)s)
            and (value is not null or not %(numbers_only)s)
        order by at, identity limit %(limit)s
    ) e
    order by e.at, e.identity limit %(limit)s
)
select {EVENT_COLUMNS} from found e join series s on s.id = e.series_id
order by e.at, e.identity
"""

# A sum of hashes does not depend on the order; of each event 64 bits twice, for 128 in all.
_SUM_OF_HASHES = """
select count(*),
    coalesce(sum(('x' || left(h, 16))::bit(64)::bigint::numeric + 9223372036854775808), 0) %% 18446744073709551616,
    coalesce(sum(('x' || right(h, 16))::bit(64)::bigint::numeric + 9223372036854775808), 0) %% 18446744073709551616
"""
_HASH = "select md5(identity::text || ' ' || coalesce(value::text, '')) as h from counted_event"

_DIGEST = f"""{_SUM_OF_HASHES}
from unnest(%(series)s::bigint[]) as w (id)
cross join lateral (
    {_HASH} where series_id = w.id and at >= %(from_)s and at < %(to)s and (value is not null or not %(numbers_only)s)
) e
"""

_DIGEST_OF = f"{_SUM_OF_HASHES} from ({_HASH} where identity = any(%(identities)s)) e"

_COUNTED = f"""
select {EVENT_COLUMNS}, e.seq from counted_event e join series s on s.id = e.series_id
where e.identity = any(array(
    select unnest(%(identities)s::uuid[])
    union all
    select id from event_amendment where event_identity = any(%(identities)s)
))
"""


def condition_of(search: EventSearch) -> str:
    """SQL: whether a search looks into the series s."""
    conditions = ["s.organization_id = %(organization_id)s"]
    if search.external_subscription_id is not None:
        conditions.append("s.external_subscription_id = %(external_subscription_id)s")
    if search.code is not None:
        conditions.append("s.code = %(code)s")
    return " and ".join(conditions)


def values_of(search: EventSearch) -> dict[str, Any]:
    """The parameters of `condition_of`."""
    return {
        "organization_id": search.organization_id,
        "external_subscription_id": search.external_subscription_id,
        "code": search.code,
    }


def by_transaction_id(
    conn: Connection[Any], *, organization_id: UUID, transaction_id: str
) -> StoredEvent | None:
    """The event with this transaction id, of any subscription of the organization."""
    first, last = transaction_range(organization_id.bytes, transaction_id)
    with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
        return cursor.execute(_ONE, [first, last, organization_id, transaction_id]).fetchone()


def known_transactions(
    conn: Connection[Any], organization_id: UUID, transaction_ids: Sequence[str]
) -> set[str]:
    """Those of the transaction ids that an event of any subscription of the organization has, or that count once."""
    if not transaction_ids:
        return set()
    rows = conn.execute(*known_transactions_query(organization_id, transaction_ids))
    return {name for (name,) in rows}


def known_transactions_query(
    organization_id: UUID, transaction_ids: Sequence[str]
) -> tuple[LiteralString, list[Any]]:
    """As known_transactions: a query of one column, to be part of another, and its parameters."""
    organization = organization_id.bytes
    claims = [claim(organization, each) for each in transaction_ids]
    ids = (claims, *transaction_bounds(organization, transaction_ids))
    return _KNOWN, [text_array(transaction_ids), *(hex_array(each.hex() for each in some) for some in ids)]


def by_identities(conn: Connection[Any], identities: Collection[UUID]) -> dict[UUID, StoredEvent]:
    """Events as they are stored, amended or not."""
    query = (
        f"select {EVENT_COLUMNS} from event e join series s on s.id = e.series_id where e.identity = any(%s)"
    )
    with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
        return {event.identity: event for event in cursor.execute(query, [list(identities)])}


def series_of(conn: Connection[Any], search: EventSearch, *, limit: int | None = None) -> list[int]:
    """The ids of the series that a search looks into, of any so many."""
    rows = conn.execute(
        f"select s.id from series s where {condition_of(search)} limit %(limit)s",
        {**values_of(search), "limit": limit},
    ).fetchall()
    return [series_id for (series_id,) in rows]


def page(
    conn: Connection[Any],
    series_ids: Sequence[int],
    *,
    from_: datetime | None,
    to: datetime,
    limit: int,
    offset: int,
) -> list[StoredEvent]:
    """Events as sent of these series in [from_, to), newest first, those of one instant by transaction id."""
    with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
        return cursor.execute(
            _PAGE,
            {
                "series": list(series_ids),
                "from_": from_ or BEGINNING,
                "to": to,
                "reach": limit + offset,
                "limit": limit,
                "offset": offset,
            },
        ).fetchall()


def after(
    conn: Connection[Any], which: CountedEvents, *, place: EventPosition | None, limit: int
) -> list[StoredEvent]:
    """These events, oldest first, from a place on."""
    with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
        return cursor.execute(
            _AFTER,
            {
                **_parameters(which),
                "at": place.at if place else BEGINNING,
                "identity": place.identity if place else UUID(int=0),
                "limit": limit,
            },
        ).fetchall()


def digest(conn: Connection[Any], which: CountedEvents) -> Digest:
    """The digest of these events. It reads them all."""
    return _digest(conn.execute(_DIGEST, _parameters(which)).fetchone())


def _parameters(which: CountedEvents) -> dict[str, Any]:
    return {
        "series": list(which.series_ids),
        "from_": which.from_ or BEGINNING,
        "to": which.to,
        "numbers_only": which.numbers_only,
    }


def digest_of(conn: Connection[Any], identities: Sequence[UUID]) -> Digest:
    """The digest of these very events."""
    return _digest(conn.execute(_DIGEST_OF, {"identities": list(identities)}).fetchone())


def _digest(row: tuple[Any, ...] | None) -> Digest:
    assert row is not None, "an aggregate has a row"
    return Digest(row[0], f"{int(row[1]):016x}{int(row[2]):016x}")


def counted(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_subscription_id: str,
    transaction_ids: Sequence[str],
) -> dict[str, tuple[int, StoredEvent]]:
    """Events of a subscription by their transaction ids, each with its place in the order of arrival.

    Of an amended one what counts instead; a voided one is left out.
    """
    names = [external_subscription_id] * len(transaction_ids)
    identities = event_identities(organization_id.bytes, names, transaction_ids)
    wanted = [UUID(bytes=identity) for identity in identities]
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_COUNTED, {"identities": wanted}).fetchall()
    found = [(row.pop("seq"), StoredEvent(**row)) for row in rows]
    return {event.transaction_id: (seq, event) for seq, event in found}
