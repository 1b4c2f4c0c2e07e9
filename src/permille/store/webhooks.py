"""The webhook outbox: written in the transaction of the change, delivered afterwards (out/webhooks.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from permille.ids import new_id

_encode = msgspec.json.Encoder(decimal_format="string").encode

# 'epoch' is due at once by any clock; waits between attempts are by the system's.
_ENQUEUE = """
insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id, payload,
    next_attempt_at, created_at)
select o.id, %(organization_id)s, %(endpoint)s, %(webhook_type)s, %(object_type)s, o.object_id, %(payload)s,
    'epoch', %(now)s
from unnest(%(ids)s::uuid[], %(objects)s::uuid[]) as o (id, object_id)
"""


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
                "payload": None if payload is None else _encode(payload).decode(),
                "now": now,
                "ids": [new_id(now) for _ in object_ids],
                "objects": list(object_ids),
            },
        )


def _listening(conn: Connection[Any], organization_id: UUID, webhook_type: str) -> list[UUID]:
    rows = conn.execute(
        "select id from webhook_endpoint where organization_id = %s"
        " and (event_types is null or '*' = any(event_types) or %s = any(event_types))",
        [organization_id, webhook_type],
    ).fetchall()
    return [endpoint for (endpoint,) in rows]
