"""Cells of distinct values: of each value its last operation, by series and by UTC hour, day and month.

They are kept for the codes whose metric counts distinct values (metering.distinct_field), together with the
usage cells and up to the same mark. A read of a period costs as many rows as it has distinct values, however
many events name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.database.bulk import uuid_array

_NO_TEXT = "00000000-0000-0000-0000-000000000000"

_OPERATIONS = f"""
with wanted as materialized (
    select s.id as series_id, s.dimensions, m.distinct_field
    from series s join metering m on m.organization_id = s.organization_id and m.code = s.code
    where s.id in ({{series}}) and m.distinct_field is not null
), observed as materialized (
    select w.series_id, e.at, e.seq, coalesce(e.extra ->> w.distinct_field, w.dimensions ->> w.distinct_field) as text,
        coalesce(e.extra ->> 'operation_type', w.dimensions ->> 'operation_type', 'add') as operation
    from counted_event e join wanted w on w.series_id = e.series_id where {{condition}}
), operation as (
    select series_id, at, seq, text, coalesce(md5(text)::uuid, '{_NO_TEXT}') as digest, operation = 'add' as is_add
    from observed where operation in ('add', 'remove')
)
"""

_CELLS = """
select distinct on (series_id, grain, starts_at, digest)
    series_id, grain, starts_at, digest, text, at, seq, is_add
from operation cross join lateral (values
    ('h'::"char", date_trunc('hour', at, 'UTC')),
    ('d'::"char", date_trunc('day', at, 'UTC')),
    ('m'::"char", date_trunc('month', at, 'UTC'))
) as c (grain, starts_at)
order by series_id, grain, starts_at, digest, at desc, seq desc
"""

_COLUMNS = "series_id, grain, starts_at, digest, text, at, seq, is_add"

_ADD = f"""
{_OPERATIONS}
insert into unique_cell as cell ({_COLUMNS})
{_CELLS}
on conflict (series_id, grain, starts_at, digest) do update
set at = excluded.at, seq = excluded.seq, is_add = excluded.is_add
where (excluded.at, excluded.seq) > (cell.at, cell.seq)
"""

_BY_ARRIVAL = _ADD.format(
    series="select series_id from counted_event where seq > %(after)s and seq <= %(until)s",
    condition="e.seq > %(after)s and e.seq <= %(until)s",
)
_BY_ARRIVAL_OF = _ADD.format(
    series="select series_id from counted_event where seq > %(after)s and seq <= %(until)s"
    " and (series_id = any(%(series)s::bigint[])) = %(within)s",
    condition="e.seq > %(after)s and e.seq <= %(until)s and (e.series_id = any(%(series)s::bigint[])) = %(within)s",
)
_OF_EVENTS = _ADD.format(
    series="select series_id from counted_event where identity = any(%(identities)s::uuid[])",
    condition="e.identity = any(%(identities)s::uuid[]) and e.seq <= %(until)s",
)

_FORGET = """
delete from unique_cell c using touched t
where c.series_id = t.series_id and c.grain = %(grain)s::"char" and c.starts_at = t.starts_at
"""

_REFOLD_HOURS = f"""
, wanted as (
    select s.id as series_id, s.dimensions, m.distinct_field, t.starts_at, t.ends_at
    from touched t join series s on s.id = t.series_id
    join metering m on m.organization_id = s.organization_id and m.code = s.code
    where m.distinct_field is not null
), observed as (
    select w.series_id, w.starts_at, e.at, e.seq,
        coalesce(e.extra ->> w.distinct_field, w.dimensions ->> w.distinct_field) as text,
        coalesce(e.extra ->> 'operation_type', w.dimensions ->> 'operation_type', 'add') as operation
    from wanted w join counted_event e
        on e.series_id = w.series_id and e.at >= w.starts_at and e.at < w.ends_at and e.seq <= %(until)s
)
insert into unique_cell ({_COLUMNS})
select distinct on (series_id, starts_at, digest)
    series_id, %(grain)s::"char", starts_at, coalesce(md5(text)::uuid, '{_NO_TEXT}') as digest, text, at, seq,
    operation = 'add'
from observed where operation in ('add', 'remove')
order by series_id, starts_at, digest, at desc, seq desc
"""

_REFOLD_CELLS = f"""
insert into unique_cell ({_COLUMNS})
select distinct on (t.series_id, t.starts_at, c.digest)
    t.series_id, %(grain)s::"char", t.starts_at, c.digest, c.text, c.at, c.seq, c.is_add
from touched t join unique_cell c
    on c.series_id = t.series_id and c.grain = %(part)s::"char"
    and c.starts_at >= t.starts_at and c.starts_at < t.ends_at
order by t.series_id, t.starts_at, c.digest, c.at desc, c.seq desc
"""

_DIFFERENCES = (
    _OPERATIONS.format(series="select id from series", condition="e.seq <= %(until)s")
    + ", right_one as ("
    + _CELLS
    + """)
select coalesce(w.series_id, c.series_id), coalesce(w.grain, c.grain)::text, coalesce(w.starts_at, c.starts_at)
from right_one w full join unique_cell c using (series_id, grain, starts_at, digest)
where (w.text, w.at, w.seq, w.is_add) is distinct from (c.text, c.at, c.seq, c.is_add)
limit %(limit)s
"""
)


def roll_up(conn: Connection[Any], *, after: int, until: int) -> None:
    """Fold the events of a stretch of arrivals; nothing is read where no metric counts distinct values."""
    if conn.execute("select 1 from metering where distinct_field is not null limit 1").fetchone():
        conn.execute(_BY_ARRIVAL, {"after": after, "until": until})


def roll_up_of(conn: Connection[Any], stretch: Mapping[str, Any]) -> None:
    """As `roll_up`, of the series of the stretch, or of all but these (rollup.roll_up)."""
    conn.execute(_BY_ARRIVAL_OF, stretch)


def fold_events(conn: Connection[Any], identities: Sequence[UUID], *, until: int) -> None:
    """Add these events to the cells of their series."""
    conn.execute(_OF_EVENTS, {"identities": uuid_array(identities), "until": until})


def refold(conn: Connection[Any], touched: str, parameters: Mapping[str, Any]) -> None:
    """The cells of one grain that are `touched` (store.rollup), from events or from the next smaller grain."""
    conn.execute(touched + _FORGET, parameters)
    conn.execute(touched + (_REFOLD_CELLS if parameters["part"] else _REFOLD_HOURS), parameters)


def verify(conn: Connection[Any], *, until: int, limit: int) -> list[tuple[int, str, Any]]:
    """(series, grain, start) of cells that differ from a recomputation from the events."""
    return conn.execute(_DIFFERENCES, {"until": until, "limit": limit}).fetchall()
