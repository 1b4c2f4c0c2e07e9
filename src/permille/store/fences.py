"""Organizations of which a background task has failed, with the instant from which it may be tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.database.bulk import uuid_array

# An organization chooses its id, its name and its day of birth; in this order none can be first at each turn.
_FREE = """
select o.id, o.name, f.organization_id is not null as has_failed
from organization o left join fence f on f.organization_id = o.id and f.task = %(task)s
where o.id = any(%(organizations)s::uuid[]) and (f.retry_at is null or f.retry_at <= %(now)s)
order by hashtextextended(o.id::text, extract(epoch from %(now)s::timestamptz)::bigint)
"""

# After 5 seconds, then twice as long each time, at least every 10 minutes.
_PUT = """
insert into fence as f (organization_id, task, failures, retry_at, reason)
values (%(organization)s, %(task)s, 1, %(now)s + interval '5 seconds', %(reason)s)
on conflict (organization_id, task) do update set
    failures = f.failures + 1,
    retry_at = %(now)s + least(interval '5 seconds' * power(2, least(f.failures, 10)), interval '10 minutes'),
    reason = excluded.reason
returning failures, retry_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """An organization that a task may work on."""

    id: UUID
    name: str
    has_failed: bool
    """Whether the task failed when it was last tried."""


def free(conn: Connection[Any], task: str, organization_ids: Sequence[UUID], *, now: datetime) -> list[Free]:
    """Those of the organizations that the task may work on now, in an order that changes with `now`."""
    with conn.cursor(row_factory=class_row(Free)) as cursor:
        return cursor.execute(
            _FREE, {"task": task, "organizations": uuid_array(organization_ids), "now": now}
        ).fetchall()


def put(
    conn: Connection[Any], organization_id: UUID, task: str, *, reason: str, now: datetime
) -> tuple[int, datetime]:
    """Keep the task from the organization for a while: how often in a row it has failed, and until when."""
    row = conn.execute(
        _PUT, {"organization": organization_id, "task": task, "reason": reason, "now": now}
    ).fetchone()
    assert row is not None, organization_id
    return row[0], row[1]


def lift(conn: Connection[Any], organization_id: UUID, task: str) -> None:
    """The task went well."""
    conn.execute("delete from fence where organization_id = %s and task = %s", [organization_id, task])
