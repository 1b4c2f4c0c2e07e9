"""Events that were taken and count as nothing, or not at the price that was meant: by the hour in which they came."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from permille.core.metering.aggregations import Reads
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.event import LOOKED_AT_AFTER
from permille.core.rating.models.group_keys import TARGET_WALLET
from permille.core.wallet import NamedWallet
from permille.database.bulk import instant_array, uuid_array
from permille.events.log import EventErrors

HOUR = timedelta(hours=1)


_OF_TEXTS = (Reads.TEXT, Reads.RULES)

# Most of what can be wrong is said by an event's series, or by whether any event of it has a value: the events of the hour
# are counted up by series first, and only those of a series with something to look at are read again.
# Nested values of a dimension are no part of the series: they are in `extra`, and no metric lists them.
_WRONG = """
with metric as materialized (
    select * from unnest(%(codes)s::text[], %(numeric)s::boolean[], %(textual)s::text[])
        as m (code, is_number, text_field)
), metric_filter as materialized (
    select f.code, f.key, array(select jsonb_array_elements_text(f.values)) as values
    from unnest(%(filtered)s::text[], %(keys)s::text[], %(values)s::jsonb[]) as f (code, key, values)
), arrived as materialized (
    select series_id, bool_or(value is null) as lacks_value, bool_or(extra is not null) as has_extra
    from event where created_at >= %(from_)s and created_at < %(to)s group by series_id
), doubtful as materialized (
    select s.id, s.dimensions, m.code, k.*
    from arrived a
    join series s on s.id = a.series_id and s.organization_id = %(organization)s
    left join metric m on m.code = s.code
    cross join lateral (
        select coalesce(m.is_number, false) as is_number, m.text_field,
            coalesce(array_agg(f.key) filter (where not s.dimensions ? f.key), '{}') as other_keys,
            coalesce(bool_or(s.dimensions ->> f.key <> all (f.values)), false) as is_strange
        from metric_filter f where f.code = m.code
    ) k
    where m.code is null or k.is_strange or a.lacks_value and (k.is_number or k.text_field is not null)
        or a.has_extra and k.other_keys <> '{}'
), wrong as materialized (
    select e.seq, e.transaction_id, d.code is null as has_no_metric, w.*
    from doubtful d
    join (
        select seq, identity, transaction_id, series_id, value, extra from event
        where created_at >= %(from_)s and created_at < %(to)s offset 0
    ) e on e.series_id = d.id
    cross join lateral (
        select e.value is null and (d.is_number or d.text_field is not null
                and coalesce(e.extra ->> d.text_field, d.dimensions ->> d.text_field) is null) as is_missing,
            d.is_strange or coalesce(e.extra ?| d.other_keys, false) and exists (
                select from metric_filter f
                where f.code = d.code and e.extra ->> f.key <> all (f.values)) as is_strange
    ) w
    where (d.code is null or w.is_missing or w.is_strange)
        and not exists (select from struck_event x where x.identity = e.identity)
    order by e.seq limit %(limit)s
)
select coalesce(array_agg(transaction_id order by seq) filter (where has_no_metric), '{}') as invalid_code,
    coalesce(array_agg(transaction_id order by seq) filter (where is_missing), '{}') as missing_aggregation_property,
    coalesce(array_agg(transaction_id order by seq) filter (where is_strange), '{}') as invalid_filter_values
from wrong having count(*) > 0
"""


def mark(conn: Connection[Any], hours: Collection[tuple[UUID, datetime]]) -> None:
    """Events of these organizations come in in these hours."""
    conn.execute(
        "insert into event_hour (organization_id, starts_at)"
        " select * from unnest(%s::uuid[], %s::timestamptz[]) on conflict do nothing",
        [
            uuid_array(organization_id for organization_id, _ in hours),
            instant_array(starts_at for _, starts_at in hours),
        ],
    )


def first_due(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which an hour of the organization is to be looked through."""
    row = conn.execute(
        "select min(starts_at) + %(after)s from event_hour where organization_id = %(organization)s"
        " and starts_at <= %(until)s - %(after)s",
        {"organization": organization_id, "until": until, "after": LOOKED_AT_AFTER},
    ).fetchone()
    return row[0] if row else None


def organizations_due(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The organizations with an hour that is to be looked through by then."""
    rows = conn.execute(
        "select distinct organization_id from event_hour where starts_at <= %s - %s", [until, LOOKED_AT_AFTER]
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def claim(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[datetime]:
    """Take the hours that are to be looked through; hours that another worker has locked are skipped unless `wait` is set."""
    rows = conn.execute(
        "delete from event_hour where organization_id = %(organization)s and starts_at = any(array("
        "   select starts_at from event_hour where organization_id = %(organization)s and starts_at <= %(until)s"
        f"  order by starts_at limit %(limit)s for update {'' if wait else 'skip locked'}))"
        " returning starts_at",
        {"organization": organization_id, "until": until - LOOKED_AT_AFTER, "limit": limit},
    ).fetchall()
    return sorted(starts_at for (starts_at,) in rows)


def wrong_in(
    conn: Connection[Any],
    organization_id: UUID,
    metrics: Sequence[BillableMetric],
    *,
    starts_at: datetime,
    limit: int,
) -> EventErrors | None:
    """What is wrong with the first `limit` faulty events of an hour by these metrics; None when all are fine.

    An event that was amended counts as what replaces it.
    """
    # Two passes over the hour, whatever its size and the statistics: none for each series, and nothing sorted on disk.
    with conn.transaction(force_rollback=True), conn.cursor(row_factory=class_row(EventErrors)) as cursor:
        cursor.execute("set local enable_nestloop = off")
        cursor.execute("set local enable_sort = off")
        return cursor.execute(
            _WRONG,
            {
                "codes": [each.code for each in metrics],
                "numeric": [each.aggregation.reads is Reads.NUMBER for each in metrics],
                "textual": [
                    each.field_name if each.aggregation.reads in _OF_TEXTS else None for each in metrics
                ],
                "filtered": [each.code for each in metrics for _ in each.filters],
                "keys": [key for each in metrics for key in each.filters],
                "values": [Jsonb(values) for each in metrics for values in each.filters.values()],
                "organization": organization_id,
                "from_": starts_at,
                "to": starts_at + HOUR,
                "limit": limit,
            },
        ).fetchone()


def wallets_named_in(
    conn: Connection[Any], organization_id: UUID, codes: Collection[str], *, starts_at: datetime
) -> list[NamedWallet]:
    """The wallets that events of an hour with these codes name, by series."""
    with conn.cursor(row_factory=class_row(NamedWallet)) as cursor:
        return cursor.execute(
            "select s.id as series_id, s.external_subscription_id, s.code, s.dimensions ->> %(key)s as wallet_code"
            " from series s where s.id = any(array(select distinct series_id from event"
            "   where created_at >= %(from_)s and created_at < %(to)s))"
            " and s.organization_id = %(organization)s and s.code = any(%(codes)s)"
            " and s.external_subscription_id is not null and s.dimensions ->> %(key)s is not null order by s.id",
            {
                "key": TARGET_WALLET,
                "organization": organization_id,
                "codes": list(codes),
                "from_": starts_at,
                "to": starts_at + HOUR,
            },
        ).fetchall()


def first_of_series(
    conn: Connection[Any], series_ids: Collection[int], *, starts_at: datetime, limit: int
) -> list[UUID]:
    """The first events of an hour of these series, in the order of arrival; amended ones are left out."""
    rows = conn.execute(
        "select e.identity from event e where e.series_id = any(%(series)s::bigint[])"
        " and e.created_at >= %(from_)s and e.created_at < %(to)s"
        " and not exists (select from struck_event x where x.identity = e.identity)"
        " order by e.seq limit %(limit)s",
        {
            "series": list(series_ids),
            "from_": starts_at,
            "to": starts_at + HOUR,
            "limit": limit,
        },
    ).fetchall()
    return [identity for (identity,) in rows]
