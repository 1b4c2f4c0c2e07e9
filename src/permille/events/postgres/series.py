"""Series and the events in them, for those who join them with rows of their own; and what came in lately."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.event import Arrived, PlacedEvent, Series
from permille.database.bulk import instant_array, int_array, text_array, uuid_array

_SERIES = "s.id, s.organization_id, s.external_subscription_id, s.code, s.dimensions"

_PLACED = f"""
select e.identity, e.transaction_id, e.at, e.seq, e.value is not null, {_SERIES}
from event e join series s on s.id = e.series_id where e.identity = any(%s::uuid[])
"""

_CLAIM = f"""
with taken as (
    delete from unchecked_series where series_id in (
        select q.series_id from unchecked_series q join series s on s.id = q.series_id
        where s.organization_id = %s order by q.series_id limit %s for update of q skip locked)
    returning series_id
)
select {_SERIES} from taken t join series s on s.id = t.series_id
"""

_ARRIVED = """
select s.organization_id, s.external_subscription_id, s.code, min(a.first_at), max(a.last_seq)
from (
    select series_id, min(at) as first_at, max(seq) as last_seq from event
    where seq > %(after)s and seq <= %(until)s group by series_id
) a join series s on s.id = a.series_id
where s.external_subscription_id is not null
group by 1, 2, 3
"""

_ARRIVED_BEFORE = """
with suspect as materialized (
    select s.id, w.organization_id, w.external_subscription_id, w.code, w.before
    from unnest(%(organizations)s::uuid[], %(external_ids)s::text[], %(codes)s::text[], %(befores)s::timestamptz[])
        as w (organization_id, external_subscription_id, code, before)
    join series s on s.organization_id = w.organization_id
        and s.external_subscription_id = w.external_subscription_id and s.code = w.code
)
select x.organization_id, x.external_subscription_id, x.code, e.at, max(e.seq)
from suspect x join (
    select series_id, at, seq from event where seq > %(after)s and seq <= %(until)s offset 0
) e on e.series_id = x.id and e.at < x.before
group by 1, 2, 3, 4
"""

_TEXTS_IN_USE = """
select distinct external_subscription_id, array(select dimensions ->> name from unnest(%(names)s::text[]) as name)
from series where organization_id = %(organization)s and code = any(%(codes)s) and external_subscription_id is not null
"""


def texts_in_use(
    conn: Connection[Any], organization_id: UUID, codes: Collection[str], names: Sequence[str]
) -> set[tuple[str | None, ...]]:
    """The external ids of subscriptions with events of these codes, each with the texts of these properties."""
    values = {"organization": organization_id, "codes": list(codes), "names": list(names)}
    return {(name, *texts) for name, texts in conn.execute(_TEXTS_IN_USE, values)}


def placed(conn: Connection[Any], identities: Collection[UUID]) -> list[PlacedEvent]:
    """Events as they are stored, with their series."""
    rows = conn.execute(_PLACED, [uuid_array(identities)])
    return [
        PlacedEvent(identity, transaction_id, at, seq, has_value, Series(*series))
        for identity, transaction_id, at, seq, has_value, *series in rows
    ]


def organizations_with_new(conn: Connection[Any]) -> list[UUID]:
    """The organizations with series that nobody has looked at since they came into use.

    Those that were moved to another encoding meanwhile are forgotten when there are no others.
    """
    rows = conn.execute(
        "select distinct s.organization_id from unchecked_series q join series s on s.id = q.series_id"
    ).fetchall()
    if not rows:
        conn.execute(
            "delete from unchecked_series q where not exists (select from series where id = q.series_id)"
        )
    return [organization_id for (organization_id,) in rows]


def claim_new(conn: Connection[Any], organization_id: UUID, *, limit: int) -> list[Series]:
    """Take series of the organization that are to be looked at. Rows that another worker has are skipped."""
    return [Series(*row) for row in conn.execute(_CLAIM, [organization_id, limit])]


def look_again(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    external_subscription_ids: Collection[str] | None = None,
    codes: Collection[str] | None = None,
) -> None:
    """Series of these subscriptions, or of these codes, are to be looked at as if they were new."""
    conn.execute(
        "insert into unchecked_series select id from series where organization_id = %(organization)s"
        " and (%(external_ids)s::text[] is null or external_subscription_id = any(%(external_ids)s))"
        " and (%(codes)s::text[] is null or code = any(%(codes)s))"
        " order by id on conflict do nothing",  # as the roll-up does: two that insert the same wait, and never for each other
        {
            "organization": organization_id,
            "external_ids": None if external_subscription_ids is None else list(external_subscription_ids),
            "codes": None if codes is None else list(codes),
        },
    )


def sums(conn: Connection[Any], series_ids: Collection[int]) -> Mapping[int, tuple[Decimal, int]]:
    """Series -> the sum of its values and the number of its events of all times, as far as they are rolled up."""
    rows = conn.execute(
        "select series_id, sum(sum), sum(events_count)::bigint from usage_cell"
        " where series_id = any(%s::bigint[]) and grain = 'm' group by series_id",
        [int_array(series_ids)],
    )
    return {series_id: (total, count) for series_id, total, count in rows}


def arrived(conn: Connection[Any], *, after: int, until: int) -> list[Arrived]:
    """What came in after a place in the order of arrival up to another: of each subscription and code the first time."""
    _by_arrival(conn)
    return [Arrived(*row) for row in conn.execute(_ARRIVED, {"after": after, "until": until})]


def arrived_before(
    conn: Connection[Any], of: Sequence[tuple[UUID, str, str, datetime]], *, after: int, until: int
) -> list[Arrived]:
    """The same of some organizations, external subscription ids and codes, with each time that is before an instant."""
    _by_arrival(conn)
    rows = conn.execute(
        _ARRIVED_BEFORE,
        {
            "organizations": uuid_array(each for each, _, _, _ in of),
            "external_ids": text_array(each for _, each, _, _ in of),
            "codes": text_array(each for _, _, each, _ in of),
            "befores": instant_array(each for _, _, _, each in of),
            "after": after,
            "until": until,
        },
    )
    return [Arrived(*row) for row in rows]


def _by_arrival(conn: Connection[Any]) -> None:
    """Events are found through BRIN, whatever the statistics say."""
    conn.execute("select set_config('enable_seqscan', 'off', true)")
