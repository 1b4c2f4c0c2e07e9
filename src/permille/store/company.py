"""Which organizations servers had requests of in the last seconds, and which rest: background work leaves those alone for a moment."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.database.bulk import uuid_array

_SEEN = """
insert into company as c (organization_id, seen_at, is_strained)
select id, %(now)s::timestamptz, %(is_strained)s from unnest(%(organizations)s::uuid[]) as s (id) order by id
on conflict (organization_id) do update set seen_at = excluded.seen_at, is_strained = excluded.is_strained
"""

_FORGET = """
delete from company where greatest(seen_at, rests_until) < %(now)s::timestamptz - interval '1 minute'
"""

_REST = """
insert into company as c (organization_id, rests_until)
select %(organization)s, %(now)s::timestamptz + %(seconds)s * interval '1 second'
where exists (
    select from company o where o.organization_id <> %(organization)s
    and o.seen_at > %(now)s::timestamptz - interval '3 seconds' and o.is_strained
)
on conflict (organization_id) do update set rests_until = excluded.rests_until
"""


def seen(
    conn: Connection[Any], organization_ids: Collection[UUID], *, is_strained: bool, now: datetime
) -> None:
    """A server has requests of these organizations now, by the system's clock, and whether they feel each other.

    Those that were not seen for a while are forgotten.
    """
    conn.execute(_FORGET, {"now": now})
    conn.execute(
        _SEEN, {"organizations": uuid_array(organization_ids), "is_strained": is_strained, "now": now}
    )


def rest(conn: Connection[Any], organization_id: UUID, *, seconds: float, now: datetime) -> None:
    """Leave the organization alone for so long from now on, by the system's clock, if a server has requests of others, and they feel it."""
    conn.execute(_REST, {"organization": organization_id, "seconds": seconds, "now": now})
