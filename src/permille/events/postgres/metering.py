"""How events are encoded: for each (organization, code), which property is the value and which make a series.

A change of it re-encodes the code's events and cells in the same transaction, under the lock that keeps
ingestion out, so that no event is ever read under an encoding that is not its own (docs/decisions/003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.metering.aggregations import AGGREGATIONS, Needs, Reads
from permille.core.metering.encoding import NO_METERING, Metering, dimensions_of, encode, series_identity
from permille.database.bulk import uuid_array

INGESTION_LOCK = 0x5045524D
"""Shared by inserts (see store_events), exclusive for what must not run beside them."""
ROLL_UP_LOCK = 0x5045524E
"""Held by whoever writes cells or amends events. Taken before INGESTION_LOCK, never after it."""

REENCODED_IN_PLACE_MAX = 5_000
"""How many events of a code are moved by the change itself; more are left to the background (store.rebuilding)."""

_WITH_VALUE = [each.name for each in AGGREGATIONS if each.reads in (Reads.NUMBER, Reads.RULES)]
_WITH_UNIQUES = [each.name for each in AGGREGATIONS if each.needs is Needs.UNIQUES]

PROPERTIES = """
coalesce(e.extra, '{}') || s.dimensions || case
    when s.value_key is null or e.value is null or coalesce(e.extra, '{}') ? s.value_key then '{}'::jsonb
    when s.value_is_text then jsonb_build_object(s.value_key, e.value::text)
    else jsonb_build_object(s.value_key, e.value) end
"""
"""SQL for the properties of an event e of a series s, as they were sent."""

_COLUMNS = "field_name, keys, version, expression, expression_field, in_advance, distinct_field"

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Known:
    """The metering of some codes, and the version of it all that was read together with it."""

    version: int
    by_code: Mapping[tuple[UUID, str], Metering]


def load(conn: Connection[Any], codes: Iterable[tuple[UUID, str]]) -> Known:
    """The metering of these (organization, code) pairs in one snapshot; a code without a metric has none."""
    wanted = list(codes)
    row = conn.execute(
        "select s.version, coalesce(jsonb_agg(jsonb_build_array("
        "   m.organization_id, m.code, m.field_name, m.keys, m.version, m.expression, m.expression_field, m.in_advance)) filter (where m.code is not null), '[]')"
        " from metering_state s left join ("
        "   metering m join unnest(%s::uuid[], %s::text[]) as w (organization_id, code)"
        "   on m.organization_id = w.organization_id and m.code = w.code) on true group by s.version",
        [[organization for organization, _ in wanted], [code for _, code in wanted]],
    ).fetchone()
    assert row is not None, "metering_state has its one row from the first migration on"
    found = {
        (UUID(organization), code): Metering(
            field_name=field,
            keys=tuple(keys),
            version=version,
            expression=expression,
            expression_field=expression_field,
            in_advance=in_advance,
        )
        for organization, code, field, keys, version, expression, expression_field, in_advance in row[1]
    }
    return Known(row[0], {pair: found.get(pair, NO_METERING) for pair in wanted})


def under_one_version(conn: Connection[Any], read: Callable[[], Read]) -> Read:
    """What several statements read, all of them before or all of them after a change of the metering.

    A change moves events to other series: what one statement found out about a series is void in the next.
    An amendment of an event is such a change too.
    """
    return _while(conn, read, _versions)


def under_one_metering(conn: Connection[Any], read: Callable[[], Read]) -> Read:
    """The prices of usage and the series they are for: both from before a change of the metering, or both from after it.

    What an amendment changes is the same under any price, so the many of an installation hold up no invoice run.
    """
    return _while(conn, read, lambda conn: _versions(conn)[0])


def _while(
    conn: Connection[Any], read: Callable[[], Read], version: Callable[[Connection[Any]], Any]
) -> Read:
    """What is read while the version stays the same."""
    before = version(conn)
    while True:
        found = read()
        after = version(conn)
        if after == before:
            return found
        before = after


def _versions(conn: Connection[Any]) -> tuple[int, int]:
    row = conn.execute("select version, amended from metering_state").fetchone()
    assert row is not None, "metering_state has its one row from the first migration on"
    return row[0], row[1]


def refresh(conn: Connection[Any], *, organization_id: UUID, code: str) -> None:
    """Call it after a change of the code's metric or of the prices on it, in the same transaction.

    Nothing happens when the encoding stays the same. Without a metric, since it was deleted or has another code,
    events stay as they are until a new one takes the code; only its expression is no more, nor its fees in advance.
    """
    before = current(conn, organization_id, code)
    wanted = _wanted(conn, organization_id, code)
    if wanted is None and before is not None:
        wanted = replace(before, expression=None, expression_field=None, in_advance=False)
    if wanted is None or (before is not None and replace(wanted, version=before.version) == before):
        return
    conn.execute("select pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
    conn.execute("select pg_advisory_xact_lock(%s)", [INGESTION_LOCK])
    row = conn.execute("update metering_state set version = version + 1 returning version").fetchone()
    assert row is not None
    stays = before is not None and _split(before) == _split(wanted)
    after = replace(wanted, version=before.version if before is not None and stays else row[0])
    conn.execute(
        "insert into metering (organization_id, code, field_name, keys, version, expression, expression_field,"
        " in_advance, distinct_field) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict (organization_id, code) do update"
        " set field_name = excluded.field_name, keys = excluded.keys, version = excluded.version,"
        " expression = excluded.expression, expression_field = excluded.expression_field,"
        " in_advance = excluded.in_advance, distinct_field = excluded.distinct_field",
        [
            organization_id,
            code,
            after.field_name,
            list(after.keys),
            after.version,
            after.expression,
            after.expression_field,
            after.in_advance,
            after.distinct_field,
        ],
    )
    if not stays:
        _reencode(conn, organization_id=organization_id, code=code, metering=after)


def _split(metering: Metering) -> tuple[Any, ...]:
    """What series and cells depend on."""
    return metering.field_name, metering.keys, metering.distinct_field


def current(conn: Connection[Any], organization_id: UUID, code: str) -> Metering | None:
    """The metering of a code, None when it has never had a metric."""
    row = conn.execute(
        f"select {_COLUMNS} from metering where organization_id = %s and code = %s", [organization_id, code]
    ).fetchone()
    return None if row is None else _read(row)


def _read(row: Sequence[Any]) -> Metering:
    """Of a row of _COLUMNS."""
    field_name, keys, version, expression, expression_field, in_advance, distinct_field = row
    return Metering(
        field_name=field_name,
        keys=tuple(keys),
        version=version,
        expression=expression,
        expression_field=expression_field,
        in_advance=in_advance,
        distinct_field=distinct_field,
    )


def _wanted(conn: Connection[Any], organization_id: UUID, code: str) -> Metering | None:
    """The metering that the code's metric and prices ask for, its version not yet given."""
    metric = conn.execute(
        "select id, case when aggregation_type = any(%s) then field_name end,"
        " case when field_name is not null then expression end, field_name,"
        " exists (select from charge c where c.billable_metric_id = m.id and c.deleted_at is null and c.pay_in_advance),"
        " case when aggregation_type = any(%s) then field_name end"
        " from billable_metric m"
        " where organization_id = %s and code = %s and deleted_at is null",
        [_WITH_VALUE, _WITH_UNIQUES, organization_id, code],
    ).fetchone()
    if metric is None:
        return None
    rows = conn.execute(
        "select f.key from billable_metric_filter f where f.billable_metric_id = %(metric)s"
        " union"
        " select jsonb_path_query(p.properties,"
        "   '$.pricing_group_keys[*] ? (@.type() == \"string\")') #>> '{}' from ("
        "   select c.properties from charge c where c.billable_metric_id = %(metric)s and c.deleted_at is null"
        "   union all select f.properties from charge c join charge_filter f on f.charge_id = c.id"
        "   where c.billable_metric_id = %(metric)s and c.deleted_at is null and f.deleted_at is null) p"
        " union"
        " select jsonb_path_query(c.properties, '$.presentation_group_keys[*].value') #>> '{}' from charge c"
        "   where c.billable_metric_id = %(metric)s and c.deleted_at is null"
        " union"
        " select 'target_wallet_code' from charge c where c.billable_metric_id = %(metric)s"
        "   and c.deleted_at is null and c.accepts_target_wallet",
        {"metric": metric[0]},
    ).fetchall()
    keys = sorted({key for (key,) in rows if key})
    return Metering(
        field_name=metric[1],
        keys=tuple(keys),
        version=0,
        expression=metric[2],
        expression_field=metric[3] if metric[2] else None,
        in_advance=metric[4],
        distinct_field=metric[5],
    )


def is_being_rebuilt(conn: Connection[Any], organization_id: UUID, code: str) -> bool:
    """Whether some events of the code are still encoded as before."""
    row = conn.execute(
        "select exists (select from metering where organization_id = %s and code = %s and rebuilding)",
        [organization_id, code],
    ).fetchone()
    return bool(row and row[0])


def being_rebuilt(conn: Connection[Any]) -> dict[tuple[UUID, str], Metering]:
    """The codes of which some events are still encoded as before: their usage is read from events alone."""
    rows = conn.execute(f"select organization_id, code, {_COLUMNS} from metering where rebuilding")
    return {(organization_id, code): _read(row) for organization_id, code, *row in rows}


def _reencode(conn: Connection[Any], *, organization_id: UUID, code: str, metering: Metering) -> None:
    """Move the code's events from their series of older meterings to series of the new one, or leave it to be done."""
    from permille.events.postgres.rebuilding import move_chunk

    stale = [
        series_id
        for (series_id,) in conn.execute(
            "select id from series where organization_id = %s and code = %s and metering_version < %s",
            [organization_id, code, metering.version],
        )
    ]
    conn.execute(
        "update metering set rebuilding = true where organization_id = %s and code = %s",
        [organization_id, code],
    )
    if not _has_more_events(conn, stale, REENCODED_IN_PLACE_MAX):
        while move_chunk(conn, organization_id, code, metering):
            pass


def _has_more_events(conn: Connection[Any], series_ids: Sequence[int], most: int) -> bool:
    row = conn.execute(
        "select count(*) > %(most)s from (select from event where series_id = any(%(series)s) limit %(most)s + 1) e",
        {"series": list(series_ids), "most": most},
    ).fetchone()
    return bool(row and row[0])


def move(
    conn: Connection[Any],
    organization_id: UUID,
    code: str,
    metering: Metering,
    rows: Sequence[tuple[UUID, str | None, dict[str, Any]]],
) -> None:
    """Encode events anew: their identities, external subscription ids and properties. The cells are the caller's."""
    encoded = [encode(metering, properties) for _, _, properties in rows]
    subscriptions = [subscription for _, subscription, _ in rows]
    keys = [
        SeriesKey(organization_id.bytes, subscription, code, metering.version, one.series)
        for subscription, one in zip(subscriptions, encoded, strict=True)
    ]
    ids = intern(conn, dict.fromkeys(keys, metering))
    conn.execute(
        "update event e set series_id = u.series_id, value = u.value, extra = u.extra"
        " from unnest(%s::uuid[], %s::bigint[], %s::numeric[], %s::jsonb[]) as u (identity, series_id, value, extra)"
        " where e.identity = u.identity",
        [
            [identity for identity, _, _ in rows],
            [ids[key] for key in keys],
            [one.value for one in encoded],
            [None if one.extra is None else Jsonb(one.extra) for one in encoded],
        ],
    )


class SeriesKey(NamedTuple):
    """What tells one series from another. `values` is Encoded.series."""

    organization: bytes
    external_subscription_id: str | None
    code: str
    metering_version: int
    values: tuple[Any, ...]


def intern(conn: Connection[Any], wanted: Mapping[SeriesKey, Metering]) -> dict[SeriesKey, int]:
    """The ids of these series, made where they are new: a few statements whatever their number.

    Known ones are only looked up: an insert would draw an id for each of them, and throw it away.
    """
    by_identity = {_identity(key): key for key in wanted}
    ids = _ids(conn, by_identity)
    new = sorted(by_identity.keys() - ids.keys())
    if new:
        keys = [by_identity[identity] for identity in new]
        conn.execute(
            "insert into series (organization_id, external_subscription_id, code, metering_version, value_key,"
            " value_is_text, dimensions, identity)"
            " select * from unnest(%s::uuid[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::boolean[],"
            " %s::jsonb[], %s::uuid[]) on conflict (identity) do nothing",
            [
                [UUID(bytes=key.organization) for key in keys],
                [key.external_subscription_id for key in keys],
                [key.code for key in keys],
                [key.metering_version for key in keys],
                [wanted[key].value_key for key in keys],
                [key.values[-1] for key in keys],
                [Jsonb(dimensions_of(wanted[key], key.values)) for key in keys],
                new,
            ],
        )
        ids |= _ids(conn, new)
    return {key: ids[identity] for identity, key in by_identity.items()}


def _ids(conn: Connection[Any], identities: Iterable[UUID]) -> dict[UUID, int]:
    """Those of the series that exist."""
    rows = conn.execute(
        "select identity, id from series where identity = any(%s::uuid[])", [uuid_array(identities)]
    )
    return dict(rows.fetchall())


def _identity(key: SeriesKey) -> UUID:
    organization, subscription, code, version, values = key
    return series_identity(UUID(bytes=organization), subscription, code, version, values)
