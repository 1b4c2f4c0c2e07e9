"""The webhook outbox: written in the transaction of the change, delivered afterwards (out/webhooks.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.database.bulk import hex_array, instant_array, text_array, uuid_array
from permille.database.connections import encode_answer
from permille.ids import new_id_texts
from permille.store import fences, jobs
from permille.store.jobs import Job
from permille.store.packing import pack, unpack

JOB = "webhooks"

# 'epoch' is due at once by any clock; waits between attempts are by the system's.
_ENQUEUE = """
insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id, payload,
    next_attempt_at, created_at)
select o.id, %(organization_id)s, %(endpoint)s, %(webhook_type)s, %(object_type)s, o.object_id, %(payload)s,
    'epoch', %(now)s
from unnest(%(ids)s::uuid[], %(objects)s::uuid[]) as o (id, object_id)
"""


def body_of(organization_id: UUID, webhook_type: str, object_type: str, shown: object) -> bytes:
    """The JSON of a webhook about an object."""
    body = {
        "webhook_type": webhook_type,
        "object_type": object_type,
        "organization_id": str(organization_id),
        object_type: shown,
    }
    return encode_answer(body)


def enqueue(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    webhook_type: str,
    object_type: str,
    object_ids: Sequence[UUID],
    payload: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    """Queue one webhook for each object and each endpoint that listens; nothing where nobody does.

    Without a payload it is rendered from the object at the first attempt, and frozen then.
    """
    listening = _listening(conn, organization_id, webhook_type) if object_ids else []
    for endpoint in listening:
        conn.execute(
            _ENQUEUE,
            {
                "organization_id": organization_id,
                "endpoint": endpoint.id,
                "webhook_type": webhook_type,
                "object_type": object_type,
                "payload": None
                if payload is None
                else body_of(organization_id, webhook_type, object_type, payload).decode(),
                "now": now,
                "ids": hex_array(new_id_texts(now, len(object_ids))),
                "objects": uuid_array(object_ids),
            },
        )
    _defer(conn, listening)


def enqueue_of(
    conn: Connection[Any],
    webhook_type: str,
    organization_id: UUID,
    object_ids: Sequence[UUID],
    *,
    now: datetime,
) -> None:
    """Queue webhooks about objects of the kind that the type begins with, each as it is at the first attempt."""
    enqueue(
        conn,
        organization_id=organization_id,
        webhook_type=webhook_type,
        object_type=webhook_type.split(".", maxsplit=1)[0],
        object_ids=object_ids,
        payload=None,
        now=now,
    )


def is_heard(conn: Connection[Any], organization_id: UUID, webhook_type: str) -> bool:
    """Whether any endpoint listens; it stays until the transaction ends."""
    return bool(_listening(conn, organization_id, webhook_type))


class _Endpoint(Record, kw_only=True):
    id: UUID
    organization_id: UUID
    is_slow: bool


def _listening(conn: Connection[Any], organization_id: UUID, webhook_type: str) -> list[_Endpoint]:
    """The endpoints; none of them goes away before the transaction ends."""
    with conn.cursor(row_factory=class_row(_Endpoint)) as cursor:
        return cursor.execute(
            "select id, organization_id, is_slow from webhook_endpoint where organization_id = %s"
            " and (event_types is null or '*' = any(event_types) or %s = any(event_types))"
            " order by id for key share",
            [organization_id, webhook_type],
        ).fetchall()


def defer_beside(conn: Connection[Any], endpoint_id: UUID, organization_id: UUID) -> None:
    """Queue a second job of an endpoint at which more is due than one process sends soon."""
    beside = Job(kind=JOB, key=str(endpoint_id), owner=str(organization_id), is_beside=True)
    jobs.defer(conn, [beside])


def _defer(conn: Connection[Any], endpoints: Sequence[_Endpoint]) -> None:
    found = [
        Job(kind=JOB, key=str(each.id), owner=str(each.organization_id), is_slow=each.is_slow)
        for each in endpoints
    ]
    jobs.defer(conn, found)


# The endpoints that have anything to send, by jumps along the index, and of these the ones where something is due.
_WITH_DUE = """
with recursive next (id) as (
    (select webhook_endpoint_id from webhook where next_attempt_at is not null order by webhook_endpoint_id limit 1)
    union all
    select (select w.webhook_endpoint_id from webhook w
            where w.next_attempt_at is not null and w.webhook_endpoint_id > next.id
            order by w.webhook_endpoint_id limit 1)
    from next where next.id is not null
)
select e.id, e.organization_id, e.is_slow from next join webhook_endpoint e on e.id = next.id
where exists (select from webhook w where w.webhook_endpoint_id = e.id and w.next_attempt_at <= %(now)s)
    and not exists (select from fence f where f.organization_id = e.organization_id and f.task = %(task)s || e.id
        and f.customer_id is null and f.retry_at > %(now)s)
"""


def defer_due(conn: Connection[Any], *, now: datetime) -> None:
    """Queue the jobs of endpoints where something is due: an attempt is to be repeated, or its worker has died."""
    with conn.cursor(row_factory=class_row(_Endpoint)) as cursor:
        found = cursor.execute(_WITH_DUE, {"now": now, "task": _TASK}).fetchall()
    _defer(conn, found)


_TASK = "Webhooks of the endpoint "
"""With its id: the task that a fence is about when deliveries to it fail for a reason of ours."""

_PAUSE_OF = """
select e.id, e.organization_id, f.retry_at
from webhook_endpoint e
left join fence f on f.organization_id = e.organization_id and f.task = %(task)s || e.id and f.customer_id is null
where e.id = %(endpoint)s
"""


class Pause(Record, kw_only=True):
    """Whether an endpoint is left alone: None, or the instant from which it is tried again."""

    id: UUID
    organization_id: UUID
    retry_at: datetime | None


def pause_of(conn: Connection[Any], endpoint_id: UUID) -> Pause | None:
    """None where the endpoint is no more."""
    with conn.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(_PAUSE_OF, {"task": _TASK, "endpoint": endpoint_id}).fetchone()


def pause(conn: Connection[Any], endpoint: Pause, *, reason: str, now: datetime) -> tuple[int, datetime]:
    """Leave an endpoint alone for a while, longer each time: how often in a row it has failed, and until when."""
    return fences.put(conn, endpoint.organization_id, f"{_TASK}{endpoint.id}", reason=reason, now=now)


def end_pause(conn: Connection[Any], endpoint_id: UUID, organization_id: UUID) -> None:
    """Deliveries to the endpoint went well, or it is no more."""
    fences.lift(conn, organization_id, f"{_TASK}{endpoint_id}")


class Claimed(Record, kw_only=True):
    """A webhook to attempt now, with what its sending needs to know."""

    id: UUID
    organization_id: UUID
    test_mode: bool
    hmac_key: str
    webhook_url: str
    signature_algo: str
    webhook_type: str
    object_type: str
    object_id: UUID
    payload: str | None
    rendered: bytes | None
    attempts: int
    lease_until: datetime

    @property
    def body(self) -> bytes | None:
        """The JSON that is sent at every attempt; None where it is still to be rendered."""
        if self.payload is not None:
            return self.payload.encode()
        return None if self.rendered is None else unpack(self.rendered)


_CLAIM = """
with due as (
    select id from webhook where webhook_endpoint_id = %(endpoint)s and next_attempt_at <= %(now)s
    order by next_attempt_at, id limit %(limit)s for update skip locked
), claimed as (
    update webhook w set next_attempt_at = %(lease_until)s from due where w.id = due.id
    returning w.*
)
select c.id, c.organization_id, o.test_mode, o.hmac_key, e.webhook_url, e.signature_algo, c.webhook_type,
    c.object_type, c.object_id, c.payload, c.rendered, c.attempts, c.next_attempt_at as lease_until
from claimed c
join organization o on o.id = c.organization_id
join webhook_endpoint e on e.id = c.webhook_endpoint_id
order by c.id
"""


def claim(
    conn: Connection[Any], endpoint_id: UUID, *, now: datetime, lease_until: datetime, limit: int
) -> list[Claimed]:
    """Take webhooks of an endpoint that are due; nobody else does before the lease is over."""
    values = {"endpoint": endpoint_id, "now": now, "lease_until": lease_until, "limit": limit}
    with conn.cursor(row_factory=class_row(Claimed)) as cursor:
        return cursor.execute(_CLAIM, values).fetchall()


def freeze(conn: Connection[Any], bodies: Mapping[UUID, bytes]) -> None:
    """Keep the JSON of webhooks as it is sent at every attempt."""
    conn.execute(
        "update webhook w set rendered = p.rendered"
        " from unnest(%(ids)s::uuid[], %(rendered)b::bytea[]) as p (id, rendered) where w.id = p.id",
        {"ids": uuid_array(bodies), "rendered": [pack(body) for body in bodies.values()]},
    )


class Attempt(Record, kw_only=True):
    """How the attempt at a claimed webhook went, and when the next one is due."""

    webhook: Claimed
    status: str
    next_attempt_at: datetime | None
    http_status: int | None
    response: str


# Only under the lease that it was claimed with: meanwhile it may have been queued again, or claimed by another.
_RECORD = """
update webhook w set status = a.status, attempts = w.attempts + 1, next_attempt_at = a.next_attempt_at,
    http_status = a.http_status, response = a.response, last_attempt_at = %(now)s
from unnest(%(ids)s::uuid[], %(leases)s::timestamptz[], %(statuses)s::text[], %(next)s::timestamptz[],
    %(http_statuses)s::bigint[], %(responses)s::text[])
    as a (id, lease_until, status, next_attempt_at, http_status, response)
where w.id = a.id and w.next_attempt_at = a.lease_until
"""


def record(conn: Connection[Any], attempts: Sequence[Attempt], *, now: datetime) -> None:
    """Write down how attempts went."""
    if not attempts:
        return
    values = {
        "ids": uuid_array(each.webhook.id for each in attempts),
        "leases": instant_array(each.webhook.lease_until for each in attempts),
        "statuses": text_array(each.status for each in attempts),
        "next": instant_array(each.next_attempt_at for each in attempts),
        "http_statuses": [each.http_status for each in attempts],
        "responses": text_array(each.response for each in attempts),
        "now": now,
    }
    conn.execute(_RECORD, values)


_GIVE_BACK = """
update webhook w set next_attempt_at = %(now)s
from unnest(%(ids)s::uuid[], %(leases)s::timestamptz[]) as c (id, lease_until)
where w.id = c.id and w.next_attempt_at = c.lease_until
"""


def give_back(conn: Connection[Any], claimed: Sequence[Claimed], *, now: datetime) -> None:
    """End the lease of webhooks that were not attempted: they are due as before."""
    if claimed:
        values = {
            "ids": uuid_array(each.id for each in claimed),
            "leases": instant_array(each.lease_until for each in claimed),
            "now": now,
        }
        conn.execute(_GIVE_BACK, values)


def note_slowness(conn: Connection[Any], endpoint_id: UUID, *, is_slow: bool) -> None:
    """Give an endpoint a slot among the slow ones from now on, or among the others."""
    conn.execute(
        "update webhook_endpoint set is_slow = %(slow)s where id = %(id)s and is_slow is distinct from %(slow)s",
        {"slow": is_slow, "id": endpoint_id},
    )


def signing_key(conn: Connection[Any], *, draw: Callable[[], str], now: datetime) -> str:
    """The installation's private RSA key as PEM, drawn at the first call; who comes second takes the first's."""
    row = conn.execute("select private_pem from signing_key").fetchone()
    if row is None:
        conn.execute(
            "insert into signing_key (private_pem, created_at) values (%s, %s) on conflict do nothing",
            [draw(), now],
        )
        row = conn.execute("select private_pem from signing_key").fetchone()
    assert row is not None
    return str(row[0])


def delete_older(conn: Connection[Any], *, before: datetime, limit: int = 10_000) -> int:
    """Delete webhooks of which nothing is left to do since that instant, by the system's clock; how many."""
    cursor = conn.execute(
        "delete from webhook where id in (select id from webhook where coalesce(last_attempt_at, created_at) < %s"
        " and next_attempt_at is null order by coalesce(last_attempt_at, created_at) limit %s)",
        [before, limit],
    )
    return cursor.rowcount
