"""The webhook outbox: written in the transaction of the change, delivered afterwards (out/webhooks.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection
from psycopg.rows import class_row

from permille.database.bulk import hex_array, uuid_array
from permille.database.connections import as_number
from permille.ids import new_id_texts

_encode = msgspec.json.Encoder(decimal_format="string", enc_hook=as_number).encode

# 'epoch' is due at once by any clock; waits between attempts are by the system's.
_ENQUEUE = """
insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id, payload,
    next_attempt_at, created_at)
select o.id, %(organization_id)s, %(endpoint)s, %(webhook_type)s, %(object_type)s, o.object_id, %(payload)s,
    'epoch', %(now)s
from unnest(%(ids)s::uuid[], %(objects)s::uuid[]) as o (id, object_id)
"""


def body_text(organization_id: UUID, webhook_type: str, object_type: str, shown: object) -> str:
    """The JSON of a webhook about an object."""
    body = {
        "webhook_type": webhook_type,
        "object_type": object_type,
        "organization_id": str(organization_id),
        object_type: shown,
    }
    return _encode(body).decode()


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
    for endpoint in _listening(conn, organization_id, webhook_type):
        conn.execute(
            _ENQUEUE,
            {
                "organization_id": organization_id,
                "endpoint": endpoint,
                "webhook_type": webhook_type,
                "object_type": object_type,
                "payload": None
                if payload is None
                else body_text(organization_id, webhook_type, object_type, payload),
                "now": now,
                "ids": hex_array(new_id_texts(now, len(object_ids))),
                "objects": uuid_array(object_ids),
            },
        )


def is_heard(conn: Connection[Any], organization_id: UUID, webhook_type: str) -> bool:
    """Whether any endpoint listens; it stays until the transaction ends."""
    return bool(_listening(conn, organization_id, webhook_type))


def _listening(conn: Connection[Any], organization_id: UUID, webhook_type: str) -> list[UUID]:
    """The endpoints; none of them goes away before the transaction ends."""
    rows = conn.execute(
        "select id from webhook_endpoint where organization_id = %s"
        " and (event_types is null or '*' = any(event_types) or %s = any(event_types))"
        " order by id for key share",
        [organization_id, webhook_type],
    ).fetchall()
    return [endpoint for (endpoint,) in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
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
    attempts: int


_CLAIM = """
with due as (
    select id from webhook where next_attempt_at <= %(now)s
    order by next_attempt_at, id limit %(limit)s for update skip locked
), claimed as (
    update webhook w set next_attempt_at = %(lease_until)s from due where w.id = due.id
    returning w.*
)
select c.id, c.organization_id, o.test_mode, o.hmac_key, e.webhook_url, e.signature_algo, c.webhook_type,
    c.object_type, c.object_id, c.payload, c.attempts
from claimed c
join organization o on o.id = c.organization_id
join webhook_endpoint e on e.id = c.webhook_endpoint_id
order by c.id
"""


def claim(conn: Connection[Any], *, now: datetime, lease_until: datetime, limit: int) -> list[Claimed]:
    """Take webhooks that are due; nobody else does before the lease is over."""
    with conn.cursor(row_factory=class_row(Claimed)) as cursor:
        return cursor.execute(_CLAIM, {"now": now, "lease_until": lease_until, "limit": limit}).fetchall()


def freeze(conn: Connection[Any], webhook_id: UUID, payload: str) -> None:
    """Keep the JSON that is sent at every attempt."""
    conn.execute("update webhook set payload = %s where id = %s", [payload, webhook_id])


def write_down(
    conn: Connection[Any],
    webhook_id: UUID,
    *,
    status: str,
    attempts: int,
    next_attempt_at: datetime | None,
    http_status: int | None,
    response: str,
    now: datetime,
) -> None:
    """How an attempt went, and when the next one is due."""
    conn.execute(
        "update webhook set status = %s, attempts = %s, next_attempt_at = %s, http_status = %s, response = %s,"
        " last_attempt_at = %s where id = %s",
        [status, attempts, next_attempt_at, http_status, response, now, webhook_id],
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
    """Delete webhooks of which nothing is left to do; how many."""
    cursor = conn.execute(
        "delete from webhook where id in (select id from webhook where created_at < %s"
        " and next_attempt_at is null order by created_at limit %s)",
        [before, limit],
    )
    return cursor.rowcount
