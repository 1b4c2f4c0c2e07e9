"""The log of requests that write: one row for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.database.connections import exact_json
from permille.ids import new_id


class LoggedRequest(Record, kw_only=True):
    """A request of an organization, and what came of it."""

    id: UUID
    organization_id: UUID
    api_key_id: UUID
    request_id: str
    method: str
    path: str
    """Without the prefix of the API's version, with the query."""
    status: int
    client: str
    origin: str
    body: str | None
    """JSON, as it is shown."""
    answer: str | None
    """What a refusal said, in JSON."""
    duration_ms: int
    at: datetime
    """When it was answered, by the system's clock."""


class LogSearch(Record, kw_only=True):
    """Every condition that is given must hold; the bounds are inclusive."""

    since: datetime | None = None
    until: datetime | None = None
    methods: Sequence[str] = ()
    statuses: Sequence[tuple[int, int]] = ()
    """First and last."""
    paths: Sequence[str] = ()
    """Parts of paths."""
    request_id: str | None = None


_COLUMNS = "id, organization_id, api_key_id, request_id, method, path, status, client, origin, body, answer, duration_ms, at"


def add(conn: Connection[Any], rows: Sequence[LoggedRequest]) -> None:
    """New rows."""
    conn.execute(
        f"insert into api_log ({_COLUMNS}) select {_COLUMNS} from jsonb_populate_recordset(null::api_log, %s::jsonb)",
        [exact_json(rows)],
    )


def search(
    conn: Connection[Any], organization_id: UUID, wanted: LogSearch, *, limit: int, offset: int
) -> tuple[list[LoggedRequest], int]:
    """The organization's requests, newest first, and how many there are."""
    values = {
        "organization": organization_id,
        "since": wanted.since,
        "until": wanted.until,
        "methods": list(wanted.methods) or None,
        "lowest": [first for first, _ in wanted.statuses] or None,
        "highest": [last for _, last in wanted.statuses],
        "paths": list(wanted.paths) or None,
        "request": wanted.request_id,
        "limit": limit,
        "offset": offset,
    }
    with conn.cursor(row_factory=class_row(LoggedRequest)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from api_log l where {_WANTED} order by at desc, id desc limit %(limit)s offset %(offset)s",
            values,
        ).fetchall()
    row = conn.execute(f"select count(*) from api_log l where {_WANTED}", values).fetchone()
    return rows, row[0] if row else 0


_WANTED = """organization_id = %(organization)s
    and (%(since)s::timestamptz is null or at >= %(since)s) and (%(until)s::timestamptz is null or at <= %(until)s)
    and (%(request)s::text is null or request_id = %(request)s)
    and (%(methods)s::text[] is null or method = any(%(methods)s))
    and (%(lowest)s::int[] is null or exists (
        select from unnest(%(lowest)s::int[], %(highest)s::int[]) as s (lowest, highest) where status between lowest and highest))
    and (%(paths)s::text[] is null or exists (select from unnest(%(paths)s::text[]) as part where position(part in path) > 0))"""

_DELETE_OLDER = """
delete from api_log where id in (select id from api_log where id < %(id)s and at < %(before)s order by id limit %(limit)s)
"""


def delete_older(conn: Connection[Any], *, before: datetime, limit: int = 5_000) -> int:
    """Delete the oldest rows from before an instant and return their number. Ids begin with the time."""
    return conn.execute(_DELETE_OLDER, {"id": new_id(before), "before": before, "limit": limit}).rowcount
