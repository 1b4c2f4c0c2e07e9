"""Which organizations servers had requests of in the last seconds, and which rest: background work leaves those alone for a moment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.database.bulk import uuid_array

_SEEN = """
insert into company as c (organization_id, seen_at)
select id, clock_timestamp() from unnest(%s::uuid[]) as s (id) order by id
on conflict (organization_id) do update set seen_at = excluded.seen_at
"""

_FORGET = """
delete from company where greatest(seen_at, rests_until) < clock_timestamp() - interval '1 minute'
"""

_REST = """
insert into company as c (organization_id, rests_until)
select %(organization)s, clock_timestamp() + %(seconds)s * interval '1 second'
where exists (
    select from company o where o.organization_id <> %(organization)s and o.seen_at > clock_timestamp() - interval '3 seconds'
)
on conflict (organization_id) do update set rests_until = excluded.rests_until
"""


def seen(conn: Connection[Any], organization_ids: Collection[UUID]) -> None:
    """A server has requests of these organizations now. Those of which nothing was seen for a while are forgotten."""
    conn.execute(_FORGET)
    conn.execute(_SEEN, [uuid_array(organization_ids)])


def rest(conn: Connection[Any], organization_id: UUID, *, seconds: float) -> None:
    """Leave the organization alone for so long, if a server has requests of others."""
    conn.execute(_REST, {"organization": organization_id, "seconds": seconds})
