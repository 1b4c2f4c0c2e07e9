"""How events are encoded: for each (organization, code), which property is the value and which make a series.

A change of it re-encodes the code's events and cells in the same transaction, under the lock that keeps
ingestion out, so that no event is ever read under an encoding that is not its own (docs/decisions/003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.metering.encoding import NO_METERING, Metering, dimensions_of, encode, series_identity
from permille.database.bulk import uuid_array

INGESTION_LOCK = 0x5045524D
"""Shared by inserts (see store_events), exclusive for what must not run beside them."""
ROLL_UP_LOCK = 0x5045524E
"""Held by whoever writes cells or amends events. Taken before INGESTION_LOCK, never after it."""

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
