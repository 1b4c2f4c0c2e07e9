"""Exact reads of usage: cells for what is whole, events for what is not or not yet rolled up.

A window is cut into whole UTC months, days and hours, whose cells are added up, and the rest at its ends,
for which the events are read; to these come the events that the roll-up has not reached. The cost does not
grow with the number of events in the window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from psycopg import Connection

from permille.core.metering.encoding import SeriesLayout
from permille.core.metering.event import property_texts
from permille.core.metering.usage import Instance, Operation, Partial
from permille.core.money import ZERO, exact
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_value
from permille.events.postgres.custom_usage import CustomWindow, custom_events
from permille.events.postgres.metering import being_rebuilt, under_one_version
from permille.events.postgres.raw_usage import raw_usage
from permille.events.usage import BEGINNING, SeriesUsage, UsageQuery

_END = datetime.max.replace(tzinfo=UTC)
_TEXTS_REMEMBERED = 4096
_KEY_AND_SERIES = itemgetter(0, 1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

Piece = tuple[str, datetime, datetime]
"""A grain (h, d, m: whole cells; e: events) and the part of a window that it answers for."""


def pieces_by_day(from_: datetime, to: datetime, timezone: str) -> list[Piece]:
    """As pieces, but each whole cell and event is of one day of the timezone: hours, where days begin with one."""
    start, end = from_.astimezone(UTC), to.astimezone(UTC)
    begin, finish = _up_hour(start), _down_hour(end)
    if begin >= finish or not _days_begin_with_hours(start, end, timezone):
        return [("e", start, end)]
    cut = [("e", start, begin), ("h", begin, finish), ("e", finish, end)]
    return [(grain, at, reach) for grain, at, reach in cut if at < reach]


def _days_begin_with_hours(start: datetime, end: datetime, timezone: str) -> bool:
    zone, days = ZoneInfo(timezone), (end - start) // _DAY + 1
    offsets = {(start + n * _DAY).astimezone(zone).utcoffset() or timedelta(0) for n in range(days + 1)}
    return not any(offset % _HOUR for offset in offsets)


def pieces(from_: datetime | None, to: datetime) -> list[Piece]:
    """Cut [from_, to) into whole months, days and hours and the rest, in no overlap and without a gap."""
    start = BEGINNING if from_ is None else from_.astimezone(UTC)
    end = to.astimezone(UTC)
    if start >= end:
        return []
    bounds = [start, _up_hour(start), _up_day(start), up_month(start)]
    bounds += [down_month(end), _down_day(end), _down_hour(end), end]
    grains = ["e", "h", "d", "m", "d", "h", "e"]
    cut: list[Piece] = []
    at = start
    for grain, upper in zip(grains, bounds[1:], strict=True):
        reach = min(upper, end)
        if grain != "e" and reach > end:
            continue
        if reach > at and _fits(grain, at, reach):
            cut.append((grain, at, reach))
            at = reach
    return cut


def _fits(grain: str, start: datetime, end: datetime) -> bool:
    """Whether both ends lie on bounds of the grain, so that whole cells answer for the piece."""
    down = {"h": _down_hour, "d": _down_day, "m": down_month}.get(grain)
    return down is None or (down(start) == start and down(end) == end)


def _down_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _down_day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def down_month(at: datetime) -> datetime:
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _up_hour(at: datetime) -> datetime:
    return at if _down_hour(at) == at else _after(_down_hour(at), _HOUR)


def _up_day(at: datetime) -> datetime:
    return at if _down_day(at) == at else _after(_down_day(at), _DAY)


def up_month(at: datetime) -> datetime:
    first = down_month(at)
    return at if first == at else down_month(_after(first, 32 * _DAY))


def _after(at: datetime, span: timedelta) -> datetime:
    """The end of time where there is nothing after it: no whole cell ends there."""
    return at + span if at < _END - span else _END


# Lateral with "offset 0": as a join the planner expects one row, and then pairs all windows with all pieces.
WANTED = """
with wanted as materialized (
    select w.key, s.id as series_id, w.code, s.dimensions
    from unnest(%(keys)s::int[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[])
        as w (key, organization_id, external_subscription_id, code)
    cross join lateral (
        select id, dimensions from series where organization_id = w.organization_id
            and external_subscription_id = w.external_subscription_id and code = w.code offset 0
    ) s
    union all
    select w.key, w.series_id, s.code, s.dimensions
    from unnest(%(series_keys)s::int[], %(series_ids)s::bigint[]) as w (key, series_id)
    cross join lateral (select code, dimensions from series where id = w.series_id offset 0) s
), bound as (
    select * from unnest(%(bound_keys)s::int[], %(froms)s::timestamptz[], %(tos)s::timestamptz[])
        as b (key, from_at, to_at)
)
"""

# "series_id + 0" and "materialized" keep the planner from walking through all events of a series to find the few
# new ones; "offset 0" makes it look for the cells and events of a piece by their instants, never by series alone.
PARTS = """
, piece as (
    select * from unnest(%(piece_keys)s::int[], %(grains)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
        as p (key, grain, starts_at, ends_at)
), tail as materialized (
    select series_id, at, value, precise_total_amount_cents from counted_event
    where seq > %(rolled_up_to)s and (series_id + 0) in (select series_id from wanted)
), part as (
    select w.key, w.series_id, c.starts_at as at, c.events_count, c.values_count, c.sum, c.max,
        c.precise_amount_cents, c.moment
    from piece p join wanted w on w.key = p.key
    cross join lateral (
        select starts_at, events_count, values_count, sum, max, precise_amount_cents, moment from usage_cell
        where series_id = w.series_id and grain = p.grain::"char"
            and starts_at >= p.starts_at and starts_at < p.ends_at
        offset 0
    ) c
    where p.grain <> 'e'
    union all
    select w.key, w.series_id, e.at, 1, (e.value is not null)::int, coalesce(e.value, 0), e.value,
        case when e.value is null then 0 else coalesce(e.precise_total_amount_cents, 0) end,
        coalesce(e.value * extract(epoch from e.at), 0)
    from piece p join wanted w on w.key = p.key
    cross join lateral (
        select at, value, precise_total_amount_cents from counted_event
        where series_id = w.series_id and at >= p.starts_at and at < p.ends_at and seq <= %(rolled_up_to)s
        offset 0
    ) e
    where p.grain = 'e'
    union all
    select w.key, t.series_id, t.at, 1, (t.value is not null)::int, coalesce(t.value, 0), t.value,
        case when t.value is null then 0 else coalesce(t.precise_total_amount_cents, 0) end,
        coalesce(t.value * extract(epoch from t.at), 0)
    from tail t join wanted w on w.series_id = t.series_id
    join bound b on b.key = w.key and t.at >= b.from_at and t.at < b.to_at
)
"""

# A full join has no nested loop, which the planner takes where it expects few series of a subscription that has thousands;
# the condition on what it finds is one that doesn't make an ordinary join of it.
_SUMS = (
    WANTED
    + PARTS
    + """
, total as (
    select key, series_id, sum(events_count)::bigint as events_count, sum(values_count)::bigint as values_count,
        sum(sum) as sum, max(max) as max, sum(precise_amount_cents) as precise_amount_cents, sum(moment) as moment
    from part group by key, series_id
)
select s.*, m.rolled_up_to
from metering_state m
left join (
    select t.key, t.series_id, w.code, w.dimensions::text, t.events_count, t.values_count, t.sum, t.max,
        t.precise_amount_cents, t.moment
    from total t full join wanted w on w.key = t.key and w.series_id = t.series_id
    where coalesce(t.key, -1) >= 0
) s on true
"""
)

_DAYS = (
    WANTED
    + PARTS
    + """
, day as (
    select p.key, p.series_id, min(p.at) as at, sum(p.sum) as sum, sum(p.values_count)::bigint as values_count
    from part p join unnest(%(bound_keys)s::int[], %(timezones)s::text[]) as z (key, timezone) using (key)
    where p.values_count > 0
    group by p.key, p.series_id, (p.at at time zone z.timezone)::date
)
select d.key, d.series_id, d.at, d.sum, d.values_count, m.rolled_up_to from metering_state m left join day d on true
"""
)

_COUNT = (
    """
with wanted as materialized (
    select 0 as key, w.series_id from unnest(%(series)s::bigint[]) as w (series_id)
), bound as (
    select 0 as key, %(from_)s::timestamptz as from_at, %(to)s::timestamptz as to_at
)
"""
    + PARTS
    + """
select (select coalesce(sum(events_count), 0)::bigint from part), rolled_up_to from metering_state
"""
)

_MARK = "select rolled_up_to, set_config('enable_seqscan', 'off', true) from metering_state"

_NEWEST = (
    WANTED
    + """
select w.key, w.series_id, e.at, e.seq, e.value
from wanted w join bound b on b.key = w.key
cross join lateral (
    select at, seq, value from counted_event
    where series_id = w.series_id and at >= b.from_at and at < b.to_at and value is not null
    order by at desc, seq desc limit 1
) e
"""
)

_OPERATIONS = (
    WANTED
    + """
, operation as (
    select w.key, w.series_id, e.at, e.seq,
        coalesce(e.extra ->> f.field_name, s.dimensions ->> f.field_name) as text,
        coalesce(e.extra ->> 'operation_type', s.dimensions ->> 'operation_type', 'add') as operation
    from wanted w join bound b on b.key = w.key
    join series s on s.id = w.series_id
    join unnest(%(field_keys)s::int[], %(field_codes)s::text[], %(field_names)s::text[])
        as f (key, code, field_name) on f.key = w.key and f.code = s.code
    join counted_event e on e.series_id = w.series_id and e.at >= b.from_at and e.at < b.to_at
)
"""
)

_UNIQUES = (
    WANTED
    + """
, piece as (
    select * from unnest(%(piece_keys)s::int[], %(grains)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
        as p (key, grain, starts_at, ends_at)
), field as (
    select f.key, w.series_id, f.field_name, s.dimensions
    from unnest(%(field_keys)s::int[], %(field_codes)s::text[], %(field_names)s::text[])
        as f (key, code, field_name)
    join wanted w on w.key = f.key join series s on s.id = w.series_id and s.code = f.code
), tail as materialized (
    select series_id, at, seq, extra from counted_event
    where seq > %(rolled_up_to)s and (series_id + 0) in (select series_id from wanted)
), observed as (
    select f.key, f.series_id, f.field_name, f.dimensions, e.at, e.seq, e.extra
    from piece p join field f on f.key = p.key
    cross join lateral (
        select at, seq, extra from counted_event
        where series_id = f.series_id and at >= p.starts_at and at < p.ends_at and seq <= %(rolled_up_to)s
        offset 0
    ) e
    where p.grain = 'e'
    union all
    select f.key, f.series_id, f.field_name, f.dimensions, t.at, t.seq, t.extra
    from tail t join field f on f.series_id = t.series_id
    join bound b on b.key = f.key and t.at >= b.from_at and t.at < b.to_at
), operation as (
    select key, series_id, at, seq, coalesce(extra ->> field_name, dimensions ->> field_name) as text,
        coalesce(extra ->> 'operation_type', dimensions ->> 'operation_type', 'add') as operation
    from observed
), known as (
    select key, series_id, text, at, seq, operation = 'add' as is_add
    from operation where operation in ('add', 'remove')
    union all
    select f.key, f.series_id, c.text, c.at, c.seq, c.is_add
    from piece p join field f on f.key = p.key
    cross join lateral (
        select text, at, seq, is_add from unique_cell
        where series_id = f.series_id and grain = p.grain::"char"
            and starts_at >= p.starts_at and starts_at < p.ends_at
        offset 0
    ) c
    where p.grain <> 'e'
), newest as (
    select distinct on (key, series_id, text) * from known order by key, series_id, text, at desc, seq desc
)
select n.*, m.rolled_up_to from metering_state m left join newest n on true
"""
)

# Without those that change nothing: a series that has named a value in a run of adds, or of removals, need not
# name it again, be it a run in the order of time or in that of arrival. Runs are of all series, so that this holds for
# whichever of them a fee puts together.
_CHANGES = (
    _OPERATIONS
    + """
, marked as (
    select o.*, operation is distinct from lag(operation) over by_time as turns,
        operation is distinct from lag(operation) over by_arrival as turns_by_arrival
    from (select o.*, s.code from operation o join series s on s.id = o.series_id) o
    where operation in ('add', 'remove')
    window by_time as (partition by key, code, text order by at, seq),
        by_arrival as (partition by key, code, text order by seq)
), numbered as (
    select *, count(*) filter (where turns) over (partition by key, code, text order by at, seq) as run,
        count(*) filter (where turns_by_arrival) over (partition by key, code, text order by seq) as run_by_arrival
    from marked
), ranked as (
    select *, row_number() over (partition by key, series_id, text, run order by at, seq) as nth,
        row_number() over (partition by key, series_id, text, run_by_arrival order by seq) as nth_by_arrival
    from numbered
)
select key, series_id, text, at, seq, operation = 'add' from ranked
where nth = 1 or nth_by_arrival = 1 order by at, seq
"""
)

_VALUES = (
    WANTED
    + """
select w.key, w.series_id, e.at, e.seq, e.value
from wanted w join bound b on b.key = w.key
join counted_event e on e.series_id = w.series_id and e.at >= b.from_at and e.at < b.to_at
where e.value is not null
order by e.at, e.seq
"""
)


def series_usage(
    conn: Connection[Any], windows: Sequence[UsageQuery], *, with_events: bool = False
) -> list[SeriesUsage]:
    """What every series in any of the windows came to."""
    return [each for found in usage_of_many(conn, windows, with_events=with_events) for each in found]


def usage_of_many(
    conn: Connection[Any], windows: Sequence[UsageQuery], *, with_events: bool = False
) -> list[list[SeriesUsage]]:
    """For each window, the usage of its series; set-based, whatever the number of windows.

    Exact as of the start of the call: an event that was acknowledged by then is in it. `with_events` also names the events
    of those series of which some events have other dimensions.
    """
    if not windows:
        return []

    organization_ids = {window.organization_id for window in windows}

    def read() -> list[list[SeriesUsage]]:
        rebuilt = being_rebuilt(conn, organization_ids)
        parts = [[each] if is_cut_late(each, rebuilt) else each.apart() for each in windows]
        flat = [part for own in parts for part in own]
        found = iter(_whole(conn, flat, rebuilt, with_events=with_events))
        whole = [[series for part in own for series in part.marked(next(found))] for own in parts]
        return _cut(conn, [own[0] if len(own) == 1 else None for own in parts], whole)

    return under_one_version(conn, organization_ids, read)


def _whole(
    conn: Connection[Any],
    windows: Sequence[UsageQuery],
    rebuilt: Mapping[tuple[UUID, str], SeriesLayout],
    *,
    with_events: bool,
) -> list[list[SeriesUsage]]:
    """The usage of windows, whatever cuts them."""
    if not rebuilt:
        return _from_cells(conn, windows)
    pairs = zip(
        _from_cells(conn, [without(window, rebuilt) for window in windows]),
        raw_usage(conn, windows, rebuilt, with_events=with_events),
        strict=True,
    )
    return [from_cells + from_events for from_cells, from_events in pairs]


def is_cut_late(window: UsageQuery, rebuilt: Container[tuple[UUID, str]]) -> bool:
    """Whether what the cut matters to is read apart once it is known: of most series nothing changes at its dates."""
    is_rebuilt = any((window.organization_id, code) in rebuilt for code in window.codes)
    return window.cut is not None and not is_rebuilt and not _needs_details(window)


def _cut(
    conn: Connection[Any], windows: Sequence[UsageQuery | None], whole: Sequence[list[SeriesUsage]]
) -> list[list[SeriesUsage]]:
    """The usage of windows with that of series to which a date matters in its stretches."""
    found: list[list[SeriesUsage]] = []
    parts: list[tuple[int, UsageQuery, list[int]]] = []
    for place, (window, series) in enumerate(zip(windows, whole, strict=True)):
        if window is None or window.cut is None:
            found.append(series)
            continue
        by_dates: dict[frozenset[date], list[SeriesUsage]] = defaultdict(list)
        for each in series:
            by_dates[window.cut.dates_of(each.dimensions)].append(each)
        (first, *_) = window.apart(())
        found.append(first.marked(by_dates.pop(frozenset(), [])))
        for dates, cut in by_dates.items():
            ids = [each.series_id for each in cut]
            parts += [(place, part, ids) for part in window.apart(dates)]
    if parts:
        read = _from_cells(conn, [part for _, part, _ in parts], [ids for _, _, ids in parts])
        for (place, part, _), own in zip(parts, read, strict=True):
            found[place] += part.marked(own)
    return found


def without(window: UsageQuery, rebuilt: Container[tuple[UUID, str]]) -> UsageQuery:
    """The window without the codes whose cells are being built."""
    return window.of_codes([code for code in window.codes if (window.organization_id, code) not in rebuilt])


def _from_cells(
    conn: Connection[Any], windows: Sequence[UsageQuery], only: Sequence[Sequence[int]] | None = None
) -> list[list[SeriesUsage]]:
    """The usage of windows: of all series with their codes, or of these of each."""
    totals = _totals(conn, windows, only)
    details = _details(conn, windows) if any(map(_needs_details, windows)) else {}
    found: list[list[SeriesUsage]] = [[] for _ in windows]
    for key, series_id, code, dimensions, events, values, total, greatest, amount, moment, _ in totals:
        partial = windows[key].partial_of(Partial(events, values, total, greatest, amount, moment))
        extra = details.get((key, series_id)) if details else None
        found[key].append(
            SeriesUsage(
                series_id, code, _texts_of(dimensions), partial._replace(**extra) if extra else partial
            )
        )
    return found


_decode_texts = msgspec.json.Decoder(dict[str, str | None]).decode


@lru_cache(maxsize=_TEXTS_REMEMBERED)
def _texts_of(dimensions: str) -> Mapping[str, str | None]:
    """The texts of dimensions as JSON: thousands of series have the same. Nobody changes them."""
    try:
        return _decode_texts(dimensions)
    except msgspec.ValidationError:
        return property_texts(exact_value(dimensions))


def _needs_details(window: UsageQuery) -> bool:
    return bool(
        window.newest
        or window.unique_fields
        or window.operation_fields
        or window.daily
        or window.each_value
        or window.custom
    )


def _totals(
    conn: Connection[Any], windows: Sequence[UsageQuery], only: Sequence[Sequence[int]] | None
) -> list[tuple[Any, ...]]:
    """The sums, under the roll-up mark that they were read with; read again when it moved in between.

    Between the two statements only the mark can move ahead: the events in between would then be counted in
    their cells and as a tail. So the mark is looked at again, in the snapshot that the sums were read in.
    """
    parameters = scope(windows, lambda window: window.codes if only is None else ())
    if only is not None:
        named = [(key, series_id) for key, ids in enumerate(only) for series_id in ids]
        parameters["series_keys"] = int_array(key for key, _ in named)
        parameters["series_ids"] = int_array(series_id for _, series_id in named)
    rows = under_one_mark(
        conn, _SUMS, parameters | pieces_of((window.from_, window.to) for window in windows)
    )
    # As they mostly come already; PostgreSQL would sort them a second time, with all that is in them.
    rows.sort(key=_KEY_AND_SERIES)
    return rows


def under_one_mark(
    conn: Connection[Any], statement: str, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Its rows, of which the mark is the last column; where it finds nothing, one row has the mark alone."""
    while True:
        mark = _mark(conn)
        rows = conn.execute(statement, {**parameters, "rolled_up_to": mark}).fetchall()
        if rows[0][-1] == mark:
            return rows if rows[0][0] is not None else []


def count_events(
    conn: Connection[Any], series_ids: Sequence[int], *, from_: datetime | None, to: datetime
) -> int:
    """How many events these series have in [from_, to), exactly, at the cost of a usage read."""
    parameters = {
        "series": list(series_ids),
        "from_": from_ or BEGINNING,
        "to": to,
        **pieces_of([(from_, to)]),
    }
    while True:
        mark = _mark(conn)
        row = conn.execute(_COUNT, {**parameters, "rolled_up_to": mark}).fetchone()
        if row is not None and row[1] == mark:
            return int(row[0])


_COUNT_CELLS = """
select coalesce(sum(c.events_count), 0)::bigint from series s join usage_cell c on c.series_id = s.id
where c.grain = %(grain)s::"char" and c.starts_at >= %(from_)s and c.starts_at < %(to)s and {owned}
"""

_COUNT_COUNTS = """
select coalesce(sum(events_count), 0)::bigint from event_count s
where grain = %(grain)s::"char" and starts_at >= %(from_)s and starts_at < %(to)s and {owned}
"""

_COUNT_EVENTS = """
select count(*) from counted_event e join series s on s.id = e.series_id
where e.at >= %(from_)s and e.at < %(to)s and e.seq {side} %(mark)s and {owned}
"""


def count_events_of(
    conn: Connection[Any],
    owned: str,
    values: Mapping[str, Any],
    *,
    from_: datetime | None,
    to: datetime,
    by_code: bool,
) -> int:
    """As count_events, of the many series s for which `owned` is true with these values.

    What depends on the organization and the code alone is counted already, `by_code`; else it is a pass over the cells.
    """
    counts = _COUNT_COUNTS if by_code else _COUNT_CELLS
    mark = _mark(conn)
    while True:
        total = _count(
            conn, _COUNT_EVENTS.format(side=">", owned=owned), values, mark, (from_ or BEGINNING, to)
        )
        for grain, *bounds in _remembered_pieces(from_, to):
            statement = _COUNT_EVENTS if grain == "e" else counts
            # By arrival and by time through BRIN, whatever the statistics say; the cells as the planner likes.
            conn.execute("select set_config('enable_seqscan', %s, true)", ["off" if grain == "e" else "on"])
            statement = statement.format(side="<=", owned=owned)
            total += _count(conn, statement, {**values, "grain": grain}, mark, bounds)
        after = _mark(conn)
        if after == mark:
            return total
        mark = after


def _count(
    conn: Connection[Any], statement: str, values: Mapping[str, Any], mark: int, bounds: Sequence[datetime]
) -> int:
    row = conn.execute(statement, {**values, "mark": mark, "from_": bounds[0], "to": bounds[1]}).fetchone()
    assert row is not None, "a count has a row"
    return int(row[0])


# An invoice run asks for the same period again and again.
_remembered_pieces = lru_cache(maxsize=1024)(pieces)
_remembered_days = lru_cache(maxsize=1024)(pieces_by_day)


def pieces_of(bounds: Iterable[tuple[datetime | None, datetime]]) -> dict[str, Any]:
    return _as_arrays(
        (key, piece) for key, bound in enumerate(bounds) for piece in _remembered_pieces(*bound)
    )


def _cut_by_day(windows: Sequence[UsageQuery]) -> dict[str, Any]:
    return _as_arrays(
        (key, piece)
        for key, window in enumerate(windows)
        if window.daily
        for piece in _remembered_days(window.from_ or BEGINNING, window.to, window.timezone)
    )


def _as_arrays(pieces_of_windows: Iterable[tuple[int, Piece]]) -> dict[str, Any]:
    cut = list(pieces_of_windows)
    return {
        "piece_keys": int_array(key for key, _ in cut),
        "grains": text_array(grain for _, (grain, _, _) in cut),
        "starts": instant_array(start for _, (_, start, _) in cut),
        "ends": instant_array(end for _, (_, _, end) in cut),
    }


def _mark(conn: Connection[Any]) -> int:
    row = conn.execute(_MARK).fetchone()
    assert row is not None, "metering_state has its one row from the first migration on"
    return int(row[0])


def scope(windows: Sequence[UsageQuery], codes_of: Callable[[UsageQuery], Iterable[str]]) -> dict[str, Any]:
    pairs = [(key, window, code) for key, window in enumerate(windows) for code in codes_of(window)]
    return {
        "keys": int_array(key for key, _, _ in pairs),
        "organizations": uuid_array(window.organization_id for _, window, _ in pairs),
        "subscriptions": text_array(window.external_subscription_id for _, window, _ in pairs),
        "codes": text_array(code for _, _, code in pairs),
        "series_keys": "{}",
        "series_ids": "{}",
        "bound_keys": int_array(range(len(windows))),
        "froms": instant_array(window.from_ or BEGINNING for window in windows),
        "tos": instant_array(window.to for window in windows),
    }


Details = dict[tuple[int, int], dict[str, Any]]


def _details(conn: Connection[Any], windows: Sequence[UsageQuery]) -> Details:
    """(window, series) -> the fields of its Partial which are more than sums."""
    details: Details = defaultdict(dict)
    if any(window.newest for window in windows):
        for key, series_id, at, seq, value in conn.execute(_NEWEST, scope(windows, lambda w: w.newest)):
            details[key, series_id]["last"] = (at, seq, value)
    if any(window.each_value for window in windows):
        each: dict[tuple[int, int], list[Instance]] = defaultdict(list)
        for key, series_id, at, seq, value in conn.execute(_VALUES, scope(windows, lambda w: w.each_value)):
            each[key, series_id].append((at, seq, value))
        for where, values in each.items():
            details[where] |= _of_values(values)
    if any(window.daily for window in windows):
        _add_days(conn, windows, details)
    if any(window.unique_fields for window in windows):
        _add_uniques(conn, windows, details)
    if any(window.operation_fields for window in windows):
        _add_operations(conn, windows, details)
    if any(window.custom for window in windows):
        for where, events in custom_events(conn, _custom_windows(windows)).items():
            details[where]["custom_events"] = (events,)
    return details


def _add_days(conn: Connection[Any], windows: Sequence[UsageQuery], details: Details) -> None:
    """The sum of each day as one value of it."""
    parameters = scope(windows, lambda window: window.daily) | _cut_by_day(windows)
    parameters["timezones"] = text_array(window.timezone for window in windows)
    days: dict[tuple[int, int], list[tuple[datetime, Decimal, int]]] = defaultdict(list)
    for key, series_id, at, total, count, _ in under_one_mark(conn, _DAYS, parameters):
        days[key, series_id].append((at, total, count))
    for where, found in days.items():
        details[where] |= {
            **_of_values([(at, 0, total) for at, total, _ in sorted(found)]),
            "values_count": sum(count for _, _, count in found),
        }


def _custom_windows(windows: Sequence[UsageQuery]) -> list[CustomWindow]:
    return [
        CustomWindow(
            key=key,
            organization_id=window.organization_id,
            external_subscription_id=window.external_subscription_id,
            code=code,
            names=names,
            from_=window.from_ or BEGINNING,
            to=window.to,
        )
        for key, window in enumerate(windows)
        for code, names in window.custom
    ]


def _of_values(values: Sequence[Instance]) -> dict[str, Any]:
    """The values and their own sum: since the sums were read there may be one more of them."""
    with exact():
        total = sum((value for _, _, value in values), ZERO)
    return {"values": tuple(values), "values_count": len(values), "sum": total}


def _fields(
    windows: Sequence[UsageQuery], fields_of: Callable[[UsageQuery], Sequence[tuple[str, str]]]
) -> dict[str, Any]:
    fields = [(key, *pair) for key, window in enumerate(windows) for pair in fields_of(window)]
    return scope(windows, lambda window: [code for code, _ in fields_of(window)]) | {
        "field_keys": [key for key, _, _ in fields],
        "field_codes": [code for _, code, _ in fields],
        "field_names": [name for _, _, name in fields],
    }


def _add_operations(conn: Connection[Any], windows: Sequence[UsageQuery], details: Details) -> None:
    found: dict[tuple[int, int], list[Operation]] = defaultdict(list)
    parameters = _fields(windows, lambda window: window.operation_fields)
    for key, series_id, text, at, seq, is_add in conn.execute(_CHANGES, parameters):
        found[key, series_id].append((at, seq, text, is_add))
    for where, operations in found.items():
        details[where]["operations"] = tuple(operations)


def _add_uniques(conn: Connection[Any], windows: Sequence[UsageQuery], details: Details) -> None:
    parameters = _fields(windows, lambda window: window.unique_fields)
    parameters |= pieces_of((window.from_, window.to) for window in windows)
    uniques: dict[tuple[int, int], dict[str | None, tuple[datetime, int, bool]]] = defaultdict(dict)
    for key, series_id, text, at, seq, present, _ in under_one_mark(conn, _UNIQUES, parameters):
        uniques[key, series_id][text] = (at, seq, present)
    for where, found in uniques.items():
        details[where]["uniques"] = found
