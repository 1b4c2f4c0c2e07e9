"""Events of earlier months, loaded past HTTP, so that a run begins in a full database."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import Connection

from permille.events.postgres import rollup

_SERIES = """
insert into series (organization_id, external_subscription_id, code, metering_version, value_key, dimensions, identity)
select %(organization)s, 'old-' || n, 'old', 0, 'tokens', '{}', gen_random_uuid() from generate_series(1, %(series)s) n
"""
_EVENTS = """
insert into event (series_id, at, created_at, identity, value, transaction_id)
select s.first + (random() * (s.last - s.first))::bigint, d.at, d.at, gen_random_uuid(), (random() * 4000)::int, md5(n::text)
from (select min(id) as first, max(id) as last from series where code = 'old') s,
    generate_series(%(from)s, %(to)s) n,
    lateral (select now() - interval '90 days' + n * (interval '85 days' / %(events)s) as at) d
"""
_AT_ONCE = 1_000_000


def load(dsn: str, organization: str, events: int, *, series: int = 1_000_000) -> float:
    """Store so many events of `series` series, folded into cells; the seconds it took."""
    started = time.perf_counter()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_SERIES, {"organization": organization, "series": min(series, events)})
        for first in range(1, events + 1, _AT_ONCE):
            last = min(first + _AT_ONCE - 1, events)
            conn.execute(_EVENTS, {"from": first, "to": last, "events": events})
            _fold(conn)
        conn.execute("vacuum analyze event")
    return time.perf_counter() - started


def _fold(conn: Connection[Any]) -> None:
    while rollup.roll_up(conn, limit=_AT_ONCE):
        pass
