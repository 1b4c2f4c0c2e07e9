"""Organizations and customers of which a background task has failed, with the instant from which it may be tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.database.bulk import uuid_array

# An organization chooses its id, its name and its day of birth; in this order none can be first at each turn.
_FREE = """
select o.id, o.name, f.organization_id is not null as has_failed
from organization o left join fence f on f.organization_id = o.id and f.task = %(task)s and f.customer_id is null
where o.id = any(%(organizations)s::uuid[]) and (f.retry_at is null or f.retry_at <= %(now)s)
and not exists (select from company c where c.organization_id = o.id and c.rests_until > %(at)s)
order by hashtextextended(o.id::text, extract(epoch from %(now)s::timestamptz)::bigint)
"""

# After 5 seconds, then twice as long each time, at least every 10 minutes.
_PUT = """
insert into fence as f (organization_id, task, customer_id, failures, since, retry_at, reason)
values (%(organization)s, %(task)s, %(customer)s, 1, %(now)s, %(now)s + interval '5 seconds', %(reason)s)
on conflict (organization_id, task, customer_id) do update set
    failures = f.failures + 1,
    retry_at = %(now)s + least(interval '5 seconds' * power(2, least(f.failures, 10)), interval '10 minutes'),
    reason = excluded.reason
returning failures, retry_at
"""

_OF_ORGANIZATION = """
select f.task, f.failures, f.since, f.retry_at, f.reason, c.external_id as external_customer_id
from fence f left join customer c on c.id = f.customer_id
where f.organization_id = %s order by f.since, f.task, c.external_id limit %s
"""


class Free(Record, kw_only=True):
    """An organization that a task may work on."""

    id: UUID
    name: str
    has_failed: bool
    """Whether the task failed when it was last tried."""


class Fence(Record, kw_only=True):
    """A task that is left alone for a while."""

    task: str
    failures: int
    """In a row."""
    since: datetime
    retry_at: datetime
    reason: str
    external_customer_id: str | None
    """None where the task has failed for the organization as a whole."""


def free(
    conn: Connection[Any], task: str, organization_ids: Sequence[UUID], *, now: datetime, at: datetime
) -> list[Free]:
    """Those of the organizations that the task may work on now, in an order that changes with `now`.

    `at` is the system's clock at this moment, by which an organization rests from its last turn.
    """
    with conn.cursor(row_factory=class_row(Free)) as cursor:
        return cursor.execute(
            _FREE, {"task": task, "organizations": uuid_array(organization_ids), "now": now, "at": at}
        ).fetchall()


def put(
    conn: Connection[Any],
    organization_id: UUID,
    task: str,
    *,
    customer_id: UUID | None = None,
    reason: str,
    now: datetime,
) -> tuple[int, datetime]:
    """Keep the task from the organization, or from a customer of it, for a while: how often in a row it has failed, and until when."""
    row = conn.execute(
        _PUT,
        {
            "organization": organization_id,
            "task": task,
            "customer": customer_id,
            "reason": reason,
            "now": now,
        },
    ).fetchone()
    assert row is not None, organization_id
    return row[0], row[1]


def lift(conn: Connection[Any], organization_id: UUID, task: str) -> None:
    """The task went well for the organization as a whole."""
    conn.execute(
        "delete from fence where organization_id = %s and task = %s and customer_id is null",
        [organization_id, task],
    )


def lift_customers(
    conn: Connection[Any], organization_id: UUID, task: str, customer_ids: Collection[UUID]
) -> None:
    """The task went well for these customers."""
    conn.execute(
        "delete from fence where organization_id = %s and task = %s and customer_id = any(%s::uuid[])",
        [organization_id, task, uuid_array(customer_ids)],
    )


def of_organization(conn: Connection[Any], organization_id: UUID, *, limit: int) -> list[Fence]:
    """What is left alone of an organization, the oldest first."""
    with conn.cursor(row_factory=class_row(Fence)) as cursor:
        return cursor.execute(_OF_ORGANIZATION, [organization_id, limit]).fetchall()
