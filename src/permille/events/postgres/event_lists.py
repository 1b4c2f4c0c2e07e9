"""Lists of events as they were sent, newest first, with how many there are.

Where a search looks into few series, each is asked through its index. Where there are many, the newest events are found
by their arrival, and their number is that of the organization's cells, which is kept: it may have a million series.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from permille.events.log import EventSearch, StoredEvent
from permille.events.postgres import amendments, events, usage
from permille.events.postgres.events import EVENT_COLUMNS, condition_of, values_of
from permille.events.usage import BEGINNING

FEW_SERIES = 1_000
ARRIVALS = (2_000, 20_000, 200_000, 2_000_000)
"""How many of all events that came last are looked through for a page, as long as there are too few for it."""

_LAST = """
select e.at from (
    select identity, series_id, at, transaction_id from event
    where seq > (select last_value from event_seq_seq) - %(arrivals)s and at >= %(from_)s and at < %(to)s
) e join series s on s.id = e.series_id
where {owned} and not exists (select from event_amendment a where a.id = e.identity)
order by e.at desc offset %(reach)s - 1 limit 1
"""

_SINCE = """
with found as materialized (
    select e.* from sent_event e join series s on s.id = e.series_id
    where e.at >= %(since)s and e.at < %(to)s and {owned}
    order by e.at desc, e.transaction_id limit %(limit)s offset %(offset)s
)
select {columns} from found e join series s on s.id = e.series_id
order by e.at desc, e.transaction_id
"""


def page(
    conn: Connection[Any],
    search: EventSearch,
    *,
    from_: datetime | None,
    to: datetime,
    limit: int,
    offset: int,
) -> tuple[int, list[StoredEvent]]:
    """How many events in [from_, to) a search finds, and a page of them; those of one instant by transaction id."""
    series = events.series_of(conn, search, limit=FEW_SERIES + 1)
    more = amendments.count_more_sent(conn, search, from_=from_, to=to)
    if len(series) <= FEW_SERIES:
        total = usage.count_events(conn, series, from_=from_, to=to)
        found = events.page(conn, series, from_=from_, to=to, limit=limit, offset=offset)
        return total + more, found
    total = usage.count_events_of(
        conn,
        condition_of(search),
        values_of(search),
        from_=from_,
        to=to,
        by_code=search.external_subscription_id is None,
    )
    since = _since(conn, search, from_=from_, to=to, reach=limit + offset)
    if since is None:
        every = events.series_of(conn, search)
        return total + more, events.page(conn, every, from_=from_, to=to, limit=limit, offset=offset)
    values = {**values_of(search), "since": since, "to": to, "limit": limit, "offset": offset}
    with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
        found = cursor.execute(
            _SINCE.format(owned=condition_of(search), columns=EVENT_COLUMNS), values
        ).fetchall()
    return total + more, found


def _since(
    conn: Connection[Any], search: EventSearch, *, from_: datetime | None, to: datetime, reach: int
) -> datetime | None:
    """An instant with at least `reach` events of the search from it on, None where too few have arrived lately."""
    conn.execute("select set_config('enable_seqscan', 'off', true)")  # BRIN, whatever the statistics say
    values = {**values_of(search), "from_": from_ or BEGINNING, "to": to, "reach": reach}
    for arrivals in ARRIVALS:
        row = conn.execute(
            _LAST.format(owned=condition_of(search)), {**values, "arrivals": arrivals}
        ).fetchone()
        if row is not None:
            at: datetime = row[0]
            return at
    return None
