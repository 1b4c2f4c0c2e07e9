"""How events are encoded: for each (organization, code), which property is the value and which make a series.

A change of it re-encodes the code's events and cells in the same transaction, under the lock that keeps
ingestion out, so that no event is ever read under an encoding that is not its own (docs/decisions/003).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.metering.encoding import NO_LAYOUT, SeriesLayout, dimensions_of, encode, series_identity
from permille.database.bulk import uuid_array
from permille.events.log import KnownLayouts

INGESTION_LOCK = 0x5045524D
"""Shared by inserts while they draw numbers (see append_events and rollup.settled_seq); nobody has it alone."""
ROLL_UP_LOCK = 0x5045524E
"""Exclusive for the roll-up, shared by those who change the cells of one organization."""
_ENCODING_LOCK = 0x5045524F
"""A lock of an organization: shared by inserts of its events, exclusive for a change of their encoding."""
_CELLS_LOCK = 0x50455250
"""A lock of an organization: exclusive for what moves or amends its events."""

READS_MAX = 4
"""How often usage is read again because its organization changes its metrics all the time, before it waits for a turn."""

PROPERTIES = """
coalesce(e.extra, '{}') || s.dimensions || case
    when s.value_key is null or e.value is null or coalesce(e.extra, '{}') ? s.value_key then '{}'::jsonb
    when s.value_is_text then jsonb_build_object(s.value_key, e.value::text)
    else jsonb_build_object(s.value_key, e.value) end
"""
"""SQL for the properties of an event e of a series s, as they were sent."""

INTERN_ATTEMPTS = 20
"""How often series are made again that a change of metering has just removed."""

_COLUMNS = "field_name, keys, version, expression, expression_field, in_advance, distinct_field"

Read = TypeVar("Read")


def load(conn: Connection[Any], codes: Mapping[UUID, Collection[str]]) -> dict[UUID, KnownLayouts]:
    """The metering of these codes of organizations in one snapshot; a code without a metric has none."""
    pairs = [(organization_id, code) for organization_id, wanted in codes.items() for code in wanted]
    rows = conn.execute(
        "select w.organization_id, w.code, coalesce(v.version, 0), m.code is not null, m.field_name, m.keys, m.version,"
        " m.expression, m.expression_field, m.in_advance, m.distinct_field"
        " from unnest(%s::uuid[], %s::text[]) as w (organization_id, code)"
        " left join metering_version v on v.organization_id = w.organization_id"
        " left join metering m on m.organization_id = w.organization_id and m.code = w.code",
        [[organization for organization, _ in pairs], [code for _, code in pairs]],
    )
    versions = dict.fromkeys(codes, 0)
    found: dict[UUID, dict[str, SeriesLayout]] = {organization_id: {} for organization_id in codes}
    for organization_id, code, version, is_known, *columns in rows:
        versions[organization_id] = version
        found[organization_id][code] = _read(columns) if is_known else NO_LAYOUT
    return {
        organization_id: KnownLayouts(versions[organization_id], by_code)
        for organization_id, by_code in found.items()
    }


def under_one_version(
    conn: Connection[Any], organization_ids: Collection[UUID], read: Callable[[], Read]
) -> Read:
    """What several statements read, all of them before or all of them after a change of the organizations' metering.

    A change moves events to other series: what one statement found out about a series is void in the next.
    An amendment of an event is such a change too.
    """
    return _while(conn, organization_ids, read, lambda row: row)


def under_one_metering(
    conn: Connection[Any], organization_ids: Collection[UUID], read: Callable[[], Read]
) -> Read:
    """The prices of usage and the series they are for: both from before a change of the metering, or both from after it.

    What an amendment changes is the same under any price, so many of them hold up no invoice run.
    """
    return _while(conn, organization_ids, read, lambda row: row[:2])


def _while(
    conn: Connection[Any],
    organization_ids: Collection[UUID],
    read: Callable[[], Read],
    version_of: Callable[[tuple[Any, ...]], tuple[Any, ...]],
) -> Read:
    """What is read while the version stays the same; after READS_MAX vain reads, while nobody may change it."""

    def versions() -> list[tuple[Any, ...]]:
        rows = conn.execute(
            "select organization_id, version, amended from metering_version where organization_id = any(%s::uuid[])"
            " order by organization_id",
            [uuid_array(organization_ids)],
        )
        return [version_of(row) for row in rows.fetchall()]

    before = versions()
    for _ in range(READS_MAX):
        found = read()
        after = versions()
        if after == before:
            return found
        before = after
    for organization_id in sorted(organization_ids):
        conn.execute(
            "select pg_advisory_xact_lock_shared(uuid_hash_extended(%s, %s))", [organization_id, _CELLS_LOCK]
        )
    return read()


def lock_cells(conn: Connection[Any], organization_id: UUID) -> None:
    """Keep away all others that move or amend the organization's events, and the roll-up, until the transaction ends.

    The organization's own lock comes first: who waits for it has nothing that another organization could wait for.
    """
    conn.execute("select pg_advisory_xact_lock(uuid_hash_extended(%s, %s))", [organization_id, _CELLS_LOCK])
    conn.execute("select pg_advisory_xact_lock_shared(%s)", [ROLL_UP_LOCK])


def set_apart(conn: Connection[Any], organization_id: UUID) -> None:
    """Read the usage of an organization from its events alone until all of them are moved to new series, by the background."""
    lock_cells(conn, organization_id)
    conn.execute(
        "update metering set version = %s, rebuilding = true where organization_id = %s",
        [new_version(conn, organization_id), organization_id],
    )


def set_apart_series(conn: Connection[Any], organization_ids: Collection[UUID]) -> list[int]:
    """The series of organizations whose cells nobody reads: they are moved, or no metric has their code."""
    rows = conn.execute(
        "select s.id from series s left join metering m on m.organization_id = s.organization_id and m.code = s.code"
        " where s.organization_id = any(%s::uuid[]) and (m.version is null or s.metering_version < m.version)",
        [uuid_array(organization_ids)],
    )
    return [series_id for (series_id,) in rows]


def new_version(conn: Connection[Any], organization_id: UUID) -> int:
    """Begin a change of the organization's encoding: its inserts wait until the transaction ends. The caller has the cells."""
    conn.execute(
        "select pg_advisory_xact_lock(uuid_hash_extended(%s, %s))", [organization_id, _ENCODING_LOCK]
    )
    row = conn.execute(
        "insert into metering_version (organization_id, version) values (%s, 1)"
        " on conflict (organization_id) do update set version = metering_version.version + 1 returning version",
        [organization_id],
    ).fetchone()
    assert row is not None
    return int(row[0])


def note_amendment(conn: Connection[Any], organization_id: UUID) -> None:
    """Make what reads several statements of the organization's usage read them again. The caller has the cells."""
    conn.execute(
        "insert into metering_version (organization_id, version, amended) values (%s, 0, 1)"
        " on conflict (organization_id) do update set amended = metering_version.amended + 1",
        [organization_id],
    )


def current(conn: Connection[Any], organization_id: UUID, code: str) -> SeriesLayout | None:
    """The metering of a code, None when it has never had a metric."""
    row = conn.execute(
        f"select {_COLUMNS} from metering where organization_id = %s and code = %s", [organization_id, code]
    ).fetchone()
    return None if row is None else _read(row)


def _read(row: Sequence[Any]) -> SeriesLayout:
    """The layout from a row of _COLUMNS."""
    field_name, keys, version, expression, expression_field, in_advance, distinct_field = row
    return SeriesLayout(
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


def being_rebuilt(
    conn: Connection[Any], organization_ids: Collection[UUID]
) -> dict[tuple[UUID, str], SeriesLayout]:
    """The codes of which some events are still encoded as before: their usage is read from events alone."""
    rows = conn.execute(
        f"select organization_id, code, {_COLUMNS} from metering where rebuilding and organization_id = any(%s::uuid[])",
        [uuid_array(organization_ids)],
    )
    return {(organization_id, code): _read(row) for organization_id, code, *row in rows}


def move(
    conn: Connection[Any],
    organization_id: UUID,
    code: str,
    metering: SeriesLayout,
    rows: Sequence[tuple[UUID, str | None, dict[str, Any]]],
) -> None:
    """Encode events again: their identities, external subscription ids and properties. The cells are the caller's."""
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
    """What distinguishes one series from another. `values` is Encoded.series."""

    organization: bytes
    external_subscription_id: str | None
    code: str
    metering_version: int
    values: tuple[Any, ...]


def intern(conn: Connection[Any], wanted: Mapping[SeriesKey, SeriesLayout]) -> dict[SeriesKey, int]:
    """The ids of these series, made where they are new: a few statements whatever their number.

    Known ones are only looked up: an insert would draw an id for each of them, and throw it away.
    """
    by_identity = {_identity(key): key for key in wanted}
    ids = _ids(conn, by_identity)
    for _ in range(INTERN_ATTEMPTS):
        new = sorted(by_identity.keys() - ids.keys())
        if not new:
            break
        _insert_series(conn, [(identity, by_identity[identity]) for identity in new], wanted)
        ids |= _ids(conn, new)
    return {key: ids[identity] for identity, key in by_identity.items()}


def _insert_series(
    conn: Connection[Any], new: Sequence[tuple[UUID, SeriesKey]], wanted: Mapping[SeriesKey, SeriesLayout]
) -> None:
    """Make these series, unless others make them at the same time."""
    conn.execute(
        "insert into series (organization_id, external_subscription_id, code, metering_version, value_key,"
        " value_is_text, dimensions, identity)"
        " select * from unnest(%s::uuid[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::boolean[],"
        " %s::jsonb[], %s::uuid[]) on conflict (identity) do nothing",
        [
            [UUID(bytes=key.organization) for _, key in new],
            [key.external_subscription_id for _, key in new],
            [key.code for _, key in new],
            [key.metering_version for _, key in new],
            [wanted[key].value_key for _, key in new],
            [key.values[-1] for _, key in new],
            [Jsonb(dimensions_of(wanted[key], key.values)) for _, key in new],
            [identity for identity, _ in new],
        ],
    )


def _ids(conn: Connection[Any], identities: Iterable[UUID]) -> dict[UUID, int]:
    """Those of the series that exist."""
    rows = conn.execute(
        # Fenced: for many identities beside few series the planner would read all of these.
        "select w.identity, s.id from unnest(%s::uuid[]) as w (identity)"
        " cross join lateral (select id from series where identity = w.identity offset 0) s",
        [uuid_array(identities)],
    )
    return dict(rows.fetchall())


def _identity(key: SeriesKey) -> UUID:
    organization, subscription, code, version, values = key
    return series_identity(UUID(bytes=organization), subscription, code, version, values)
