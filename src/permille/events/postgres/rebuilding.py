"""Rebuilding: what is left of a code's events in an older encoding is moved to the present one, a chunk at a time.

A change of a metric's dimensions takes effect at once: events that come are stored in the new encoding, and the usage
of the code is read from events alone (store.raw_usage) until the last of the old ones is moved. Ingestion and reads
never wait for it; the roll-up and amendments wait for a chunk at most (docs/decisions/003).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.encoding import Metering
from permille.events.postgres.metering import PROPERTIES, ROLL_UP_LOCK, current, move
from permille.events.postgres.rollup import fold_events
from permille.store import unpriced

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


def organizations_waiting(conn: Connection[Any]) -> list[UUID]:
    """The organizations with a code of which something is left to be moved."""
    rows = conn.execute("select distinct organization_id from metering where rebuilding").fetchall()
    return [organization_id for (organization_id,) in rows]


def step(conn: Connection[Any], organization_id: UUID) -> bool:
    """Move a chunk of the organization's code whose change is the oldest; False when nothing is left of any.

    `conn` is in no transaction; afterwards it is in none.
    """
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
        row = conn.execute(
            "select code from metering where organization_id = %s and rebuilding order by version, code limit 1",
            [organization_id],
        ).fetchone()
        if row is None:
            return False
        metering = current(conn, organization_id, row[0])
        assert metering is not None, row[0]
        move_chunk(conn, organization_id, row[0], metering)
    return True


def move_chunk(conn: Connection[Any], organization_id: UUID, code: str, metering: Metering) -> bool:
    """Move a chunk of what is left of a code to its metering; False when nothing was, and the mark is gone.

    The caller holds ROLL_UP_LOCK. Cells of old series are of no use to anybody: they go before the first event does, for
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
        unpriced.recheck(conn, [organization_id])
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
