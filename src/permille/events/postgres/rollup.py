"""The roll-up: committed events, folded into usage cells beside the hot path.

Everything up to metering_state.rolled_up_to is in the cells, everything after it is read from the events.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from time import sleep
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection

from permille.core.metering.event import Arrival
from permille.database.bulk import instant_array, int_array, uuid_array
from permille.database.connections import is_passing
from permille.events.postgres import metering, uniques
from permille.events.postgres.metering import INGESTION_LOCK, ROLL_UP_LOCK

log = logging.getLogger(__name__)

CHUNK = 50_000
"""Events folded in one transaction: what amends events waits for one of these at most."""
_LAST_SEQ = "case when is_called then last_value else last_value - 1 end"

POLL_SECONDS = 0.002
_INSERTING = """
select virtualtransaction from pg_locks
where locktype = 'advisory' and classid = 0 and objid = %s and objsubid = 1 and pid <> pg_backend_pid()
    and database = (select oid from pg_database where datname = current_database())
"""

_EVENT_SUMS = """
    count(*) as events_count, count(value) as values_count, coalesce(sum(value), 0) as sum, max(value) as max,
    coalesce(sum(precise_total_amount_cents) filter (where value is not null), 0) as precise_amount_cents,
    coalesce(sum(value * extract(epoch from at)), 0) as moment
"""

_CELL_SUMS = """
    sum(events_count) as events_count, sum(values_count) as values_count, sum(sum) as sum, max(max) as max,
    sum(precise_amount_cents) as precise_amount_cents, sum(moment) as moment
"""

_FOLD = f"""
with hours as materialized (
    select series_id, date_trunc('hour', at, 'UTC') as starts_at, {_EVENT_SUMS}
    from counted_event where {{condition}}
    group by 1, 2
), days as materialized (
    select series_id, date_trunc('day', starts_at, 'UTC') as starts_at, {_CELL_SUMS}
    from hours group by 1, 2
), months as (
    select series_id, date_trunc('month', starts_at, 'UTC') as starts_at, {_CELL_SUMS}
    from days group by 1, 2
)
"""

_CELLS = """
select series_id, 'h'::"char" as grain, starts_at, events_count, values_count, sum, max, precise_amount_cents, moment from hours
union all
select series_id, 'd', starts_at, events_count, values_count, sum, max, precise_amount_cents, moment from days
union all
select series_id, 'm', starts_at, events_count, values_count, sum, max, precise_amount_cents, moment from months
"""

# A series that is used in a month for the first time is looked at for usage without a price (store/unpriced.py).
_ADD = (
    _FOLD
    + """
, cells as (
insert into usage_cell as cell (
    series_id, grain, starts_at, events_count, values_count, sum, max, precise_amount_cents, moment
)
"""
    + _CELLS
    + """
order by series_id, grain, starts_at -- neighbours in the index and in the table come together
on conflict (series_id, grain, starts_at) do update set
    events_count = cell.events_count + excluded.events_count,
    values_count = cell.values_count + excluded.values_count,
    sum = cell.sum + excluded.sum,
    max = greatest(cell.max, excluded.max),
    precise_amount_cents = cell.precise_amount_cents + excluded.precise_amount_cents,
    moment = cell.moment + excluded.moment
returning series_id, grain, starts_at, (xmax = 0) as is_new
), months_used as (
    insert into series_month (organization_id, code, starts_at, series_id)
    select s.organization_id, s.code, c.starts_at, s.id
    from cells c join series s on s.id = c.series_id
    where c.grain = 'm' and c.is_new
    on conflict do nothing
)
insert into unchecked_series
select distinct series_id from cells where grain = 'm' and is_new order by series_id
on conflict do nothing
"""
)

_BY_ARRIVAL = _ADD.format(condition="seq > %(after)s and seq <= %(until)s")
_BY_ARRIVAL_OF = _ADD.format(
    condition="seq > %(after)s and seq <= %(until)s and (series_id = any(%(series)s::bigint[])) = %(within)s"
)
_SERIES_OF_STRETCH = """
select distinct s.organization_id, s.id from counted_event e join series s on s.id = e.series_id
where e.seq > %s and e.seq <= %s
"""
_OF_EVENTS = _ADD.format(condition="identity = any(%(identities)s::uuid[]) and seq <= %(until)s")

# The cells of one grain that some instants lie in, computed again from events or from the cells of the next smaller grain.
# An interval is added to a time without a zone, in which every day has 24 hours.
_TOUCHED = """
with touched as materialized (
    select series_id, starts_at,
        (starts_at at time zone 'UTC' + ('1 ' || %(unit)s)::interval) at time zone 'UTC' as ends_at
    from (
        select distinct w.series_id, date_trunc(%(unit)s, w.at, 'UTC') as starts_at
        from unnest(%(series)s::bigint[], %(ats)s::timestamptz[]) as w (series_id, at)
    ) d
)
"""

_FORGET = (
    _TOUCHED
    + """
delete from usage_cell c using touched t
where c.series_id = t.series_id and c.grain = %(grain)s::"char" and c.starts_at = t.starts_at
"""
)

_REFOLD = (
    _TOUCHED
    + """
insert into usage_cell (
    series_id, grain, starts_at, events_count, values_count, sum, max, precise_amount_cents, moment
)
select t.series_id, %(grain)s::"char", t.starts_at, f.*
from touched t cross join lateral (
"""
)

_REFOLD_HOURS = f"""{_REFOLD}
    select {_EVENT_SUMS} from counted_event
    where series_id = t.series_id and at >= t.starts_at and at < t.ends_at and seq <= %(until)s
) f where f.events_count > 0
"""

_REFOLD_CELLS = f"""{_REFOLD}
    select {_CELL_SUMS} from usage_cell
    where series_id = t.series_id and grain = %(part)s::"char" and starts_at >= t.starts_at and starts_at < t.ends_at
) f where f.events_count > 0
"""

_MONTHS_USED = (
    _TOUCHED
    + """
insert into series_month (organization_id, code, starts_at, series_id)
select s.organization_id, s.code, t.starts_at, s.id
from touched t join series s on s.id = t.series_id
on conflict do nothing
"""
)

_DIFFERENCES = (
    _FOLD.format(condition="seq <= %(until)s")
    + ", wanted as ("
    + _CELLS
    + """)
select coalesce(w.series_id, c.series_id), coalesce(w.grain, c.grain)::text, coalesce(w.starts_at, c.starts_at)
from wanted w full join usage_cell c using (series_id, grain, starts_at)
where (w.events_count, w.values_count, w.sum, w.max, w.precise_amount_cents, w.moment)
    is distinct from (c.events_count, c.values_count, c.sum, c.max, c.precise_amount_cents, c.moment)
limit %(limit)s
"""
)

_UNKNOWN_MONTHS = """
select c.series_id, c.grain::text, c.starts_at
from usage_cell c join series s on s.id = c.series_id
where c.grain = 'm' and not exists (
    select from series_month m where m.organization_id = s.organization_id and m.code = s.code
        and m.starts_at = c.starts_at and m.series_id = c.series_id
)
limit %s
"""

_MISCOUNTED = """
select 0, grain::text, starts_at from (
    select s.organization_id, c.grain, c.starts_at, s.code, sum(c.events_count) as events_count
    from usage_cell c join series s on s.id = c.series_id group by 1, 2, 3, 4
) w full join event_count n using (organization_id, grain, starts_at, code)
where coalesce(w.events_count, 0) <> coalesce(n.events_count, 0)
limit %s
"""


def roll_up(conn: Connection[Any], *, limit: int = CHUNK) -> int:
    """Fold at most `limit` events; how many it was.

    It waits its turn: the mover of a long history takes the lock for one chunk after the other. An organization whose
    events cannot be folded holds up no other: its history is moved instead. `conn` is in no transaction; afterwards it
    is in none.
    """
    try:
        return _roll_up(conn, limit)
    except psycopg.Error as error:
        if is_passing(error):
            raise
        apart = _unfoldable(conn, limit)
        if not apart:
            raise
    for organization_id in apart:
        with conn.transaction():
            metering.set_apart(conn, organization_id)
    return _roll_up(conn, limit, apart)


def _roll_up(conn: Connection[Any], limit: int, apart: Sequence[UUID] = ()) -> int:
    with conn.transaction():
        after, until = _stretch(conn, limit)
        if until <= after:
            return 0
        conn.execute("set local enable_seqscan = off")  # BRIN by arrival, whatever the statistics say
        if apart:
            _fold_of(conn, after, until, metering.set_apart_series(conn, apart), within=False)
        else:
            conn.execute(_BY_ARRIVAL, {"after": after, "until": until})
            uniques.roll_up(conn, after=after, until=until)
        conn.execute("update metering_state set rolled_up_to = %s", [until])
    return until - after


def _stretch(conn: Connection[Any], limit: int) -> tuple[int, int]:
    """After which seq it is folded next, and up to which; where there is anything, nobody else folds meanwhile."""
    seen = arrival(conn)
    if seen.counted_to == seen.seen_to:
        return seen.counted_to, seen.counted_to
    settled = settled_seq(conn)
    conn.execute("select pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
    row = conn.execute("select rolled_up_to from metering_state").fetchone()
    assert row is not None
    return row[0], min(settled, row[0] + limit)


def _fold_of(
    conn: Connection[Any], after: int, until: int, series_ids: Sequence[int], *, within: bool
) -> None:
    """Fold the events of these series, or of all others."""
    stretch = {"after": after, "until": until, "series": int_array(series_ids), "within": within}
    conn.execute(_BY_ARRIVAL_OF, stretch)
    uniques.roll_up_of(conn, stretch)


def _unfoldable(conn: Connection[Any], limit: int) -> list[UUID]:
    """The organizations whose events make the next stretch fail, each tried by itself; nothing is changed."""
    with conn.transaction():
        after, until = _stretch(conn, limit)
        found: dict[UUID, list[int]] = defaultdict(list)
        for organization_id, series_id in conn.execute(_SERIES_OF_STRETCH, [after, until]):
            found[organization_id].append(series_id)
        return [
            each for each, series_ids in found.items() if not _can_fold(conn, after, until, each, series_ids)
        ]


def _can_fold(
    conn: Connection[Any], after: int, until: int, organization_id: UUID, series_ids: Sequence[int]
) -> bool:
    try:
        with conn.transaction(force_rollback=True):
            _fold_of(conn, after, until, series_ids, within=True)
    except psycopg.Error as error:
        if is_passing(error):
            raise
        log.exception(
            "Events of organization %s cannot be added up; those of others are. Its usage is read from its events, and"
            " its history is moved",
            organization_id,
        )
        return False
    return True


def settled_seq(conn: Connection[Any]) -> int:
    """The last seq of which, and of all before it, it is decided whether they are in.

    An insert holds INGESTION_LOCK, shared, from before it draws its first seq until it is committed. Those that hold it
    now may have drawn any up to the last one; once they are over, it is settled. No insert waits for that.
    """
    row = conn.execute(f"select {_LAST_SEQ} from event_seq_seq").fetchone()
    assert row is not None
    under_way = _inserting(conn)
    while under_way:
        sleep(POLL_SECONDS)
        under_way &= _inserting(conn)
    return int(row[0])


def _inserting(conn: Connection[Any]) -> set[str]:
    """The transactions of others that may have drawn a seq."""
    rows = conn.execute(_INSERTING, [INGESTION_LOCK])
    return {transaction for (transaction,) in rows}


def arrival(conn: Connection[Any]) -> Arrival:
    """Call it before usage is read. It takes no lock: what is under way lies between the two."""
    row = conn.execute(
        f"select rolled_up_to, (select {_LAST_SEQ} from event_seq_seq) from metering_state"
    ).fetchone()
    assert row is not None
    return Arrival(*row)


def summarize(conn: Connection[Any]) -> None:
    """Keep the BRIN indexes short of unsummarized pages, which every search by arrival would read."""
    for index in ("event_seq", "event_at", "event_created_at"):
        conn.execute("select brin_summarize_new_values(%s::regclass)", [index])


def fold_events(conn: Connection[Any], identities: Sequence[UUID]) -> None:
    """Add these events to the cells of their series, as far as they are rolled up. The caller has the cells (metering.lock_cells)."""
    row = conn.execute("select rolled_up_to from metering_state").fetchone()
    assert row is not None
    conn.execute(_OF_EVENTS, {"identities": uuid_array(identities), "until": row[0]})
    uniques.fold_events(conn, identities, until=row[0])


def refold(conn: Connection[Any], places: Collection[tuple[int, datetime]]) -> None:
    """The cells that these instants of series lie in, from nothing, of the events that are rolled up already.

    For callers that strike events or add to what is rolled up, and have locked the cells.
    """
    row = conn.execute("select rolled_up_to from metering_state").fetchone()
    assert row is not None
    where = {
        "series": int_array(series_id for series_id, _ in places),
        "ats": instant_array(at for _, at in places),
        "until": row[0],
    }
    for grain, unit, part, fold in (
        ("h", "hour", None, _REFOLD_HOURS),
        ("d", "day", "h", _REFOLD_CELLS),
        ("m", "month", "d", _REFOLD_CELLS),
    ):
        parameters = {**where, "grain": grain, "unit": unit, "part": part}
        conn.execute(_FORGET, parameters)
        conn.execute(fold, parameters)
        uniques.refold(conn, _TOUCHED, parameters)
    conn.execute(_MONTHS_USED, {**where, "unit": "month"})


def verify(conn: Connection[Any], *, limit: int = 100) -> list[tuple[int, str, Any]]:
    """(series, grain, start) of cells that differ from a recomputation from the events, or whose month is not in
    series_month, and those in which event_count says another number; empty when all is well.
    """
    row = conn.execute("select rolled_up_to from metering_state").fetchone()
    assert row is not None
    wrong = conn.execute(_DIFFERENCES, {"until": row[0], "limit": limit}).fetchall()
    return (
        wrong
        or conn.execute(_UNKNOWN_MONTHS, [limit]).fetchall()
        or conn.execute(_MISCOUNTED, [limit]).fetchall()
        or uniques.verify(conn, until=row[0], limit=limit)
    )
