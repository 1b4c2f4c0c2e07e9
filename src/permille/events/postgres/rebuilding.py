"""Rebuilding: what is left of a code's events in an older encoding is moved to the present one, a chunk at a time.

A change of a metric's dimensions takes effect at once: events that come are stored in the new encoding, and the usage
of the code is read from events alone (store.raw_usage) until the last of the old ones is moved. Ingestion and reads
never wait for it; the roll-up and amendments wait for a chunk at most (docs/decisions/003).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.encoding import SeriesLayout
from permille.core.record import replace
from permille.events.postgres.metering import PROPERTIES, current, lock_cells, move, new_version
from permille.events.postgres.rollup import fold_events

REENCODED_IN_PLACE_MAX = 5_000
"""How many events of a code are moved by the change itself; more are left to the background."""

CHUNK = 5_000
SERIES_AT_ONCE = 500

_STALE_SERIES = """
select id from series
where organization_id = %s and code = %s and metering_version < %s
order by metering_version, id limit %s
"""

_EVENTS = f"""
select e.identity, s.external_subscription_id, {PROPERTIES}
from event e join series s on s.id = e.series_id where e.series_id = any(%s)
order by e.series_id, e.at limit %s
"""

_FORGET_EMPTY = """
delete from series s where s.id = any(%s) and not exists (select from event where series_id = s.id)
"""


def refresh(conn: Connection[Any], *, organization_id: UUID, code: str, wanted: SeriesLayout | None) -> None:
    """Keep the code's events as `wanted` from now on, and move those that there are, in the same transaction or later.

    Nothing happens when the encoding stays the same. Without a metric, since it was deleted or has another code,
    events stay as they are until a new one takes the code; only its expression is no more, nor its fees in advance.
    """
    before = current(conn, organization_id, code)
    if wanted is None and before is not None:
        wanted = replace(before, expression=None, expression_field=None, in_advance=False)
    if wanted is None or (before is not None and replace(wanted, version=before.version) == before):
        return
    lock_cells(conn, organization_id)
    version = new_version(conn, organization_id)
    stays = before is not None and _split(before) == _split(wanted)
    after = replace(wanted, version=before.version if before is not None and stays else version)
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


def _split(metering: SeriesLayout) -> tuple[Any, ...]:
    """What series and cells depend on."""
    return metering.field_name, metering.keys, metering.distinct_field


def _reencode(conn: Connection[Any], *, organization_id: UUID, code: str, metering: SeriesLayout) -> None:
    """Move the code's events from their series of older meterings to series of the new one, or leave it to be done."""
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


def organizations_waiting(conn: Connection[Any]) -> list[UUID]:
    """The organizations with a code of which something is left to be moved."""
    rows = conn.execute("select distinct organization_id from metering where rebuilding").fetchall()
    return [organization_id for (organization_id,) in rows]


def step(conn: Connection[Any], organization_id: UUID) -> bool:
    """Move a chunk of the organization's code whose change is the oldest; whether that was the last of the code.

    `conn` is in no transaction; afterwards it is in none.
    """
    with conn.transaction():
        lock_cells(conn, organization_id)
        row = conn.execute(
            "select code from metering where organization_id = %s and rebuilding order by version, code limit 1",
            [organization_id],
        ).fetchone()
        if row is None:
            return False
        metering = current(conn, organization_id, row[0])
        assert metering is not None, row[0]
        return not move_chunk(conn, organization_id, row[0], metering)


def move_chunk(conn: Connection[Any], organization_id: UUID, code: str, metering: SeriesLayout) -> bool:
    """Move a chunk of what is left of a code to its metering; False when nothing was, and the mark is gone.

    The caller has the cells. Cells of old series are of no use to anybody: they go before the first event does, for
    charts that add up cells.
    """
    stale = [
        series_id
        for (series_id,) in conn.execute(
            _STALE_SERIES, [organization_id, code, metering.version, SERIES_AT_ONCE]
        )
    ]
    if not stale:
        conn.execute(
            "update metering set rebuilding = false where organization_id = %s and code = %s",
            [organization_id, code],
        )
        return False
    for cells in ("usage_cell", "unique_cell"):
        conn.execute(f"delete from {cells} where series_id = any(%s)", [stale])
    conn.execute(
        "delete from series_month where organization_id = %s and code = %s and series_id = any(%s)",
        [organization_id, code, stale],
    )
    rows = conn.execute(_EVENTS, [stale, CHUNK]).fetchall()
    if rows:
        move(conn, organization_id, code, metering, rows)
        fold_events(conn, [identity for identity, _, _ in rows])
    conn.execute(_FORGET_EMPTY, [stale])
    return True
