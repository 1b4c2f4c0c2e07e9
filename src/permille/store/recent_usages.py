"""The last usages of language models that came in, and what became of them: a bounded number of each organization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.llm.call import UsageStatus
from permille.core.record import Record, names_of
from permille.database.bulk import uuid_array
from permille.database.connections import exact_json

KEPT = 200
"""How many of each organization are kept."""


class RecentUsage(Record, kw_only=True):
    """A usage as it came, with nothing of prompts or answers."""

    id: UUID
    organization_id: UUID
    at: datetime
    """When it came, by the organization's clock."""
    road: str
    """The address that it came to."""
    client: str | None
    """The program that sent it, as it calls itself."""
    status: UsageStatus
    count: int
    """How many this is, where several are shown as one."""
    identity: str | None
    provider: str | None
    model: str | None
    external_subscription_id: str | None
    external_customer_id: str | None
    code: str | None
    message: str | None
    """Why it is not counted."""
    events: Sequence[Mapping[str, str]]
    """What each event counts: code, model, type, modality and quantity."""
    warnings: Sequence[Mapping[str, str]]


_NAMES = names_of(RecentUsage)
_COLUMNS = ", ".join(_NAMES)

# Ids begin with the time. Rows that another process is deleting are left to it.
_FORGET = """
delete from recent_usage where id in (
    select r.id from unnest(%(organizations)s::uuid[]) as o (id)
    cross join lateral (
        select id from recent_usage where organization_id = o.id order by id desc offset %(kept)s limit 1
    ) as last
    join recent_usage r on r.organization_id = o.id and r.id <= last.id
    for update of r skip locked
)
"""


def add(conn: Connection[Any], rows: Sequence[RecentUsage]) -> None:
    """New rows; of each organization the newest KEPT stay."""
    conn.execute(
        f"insert into recent_usage ({_COLUMNS}) select {_COLUMNS}"
        " from jsonb_populate_recordset(null::recent_usage, %s::jsonb)",
        [_json([{name: getattr(row, name) for name in _NAMES} for row in rows])],
    )
    owners = {row.organization_id for row in rows}
    conn.execute(_FORGET, {"organizations": uuid_array(owners), "kept": KEPT})


def _json(rows: list[dict[str, Any]]) -> str:
    """What programs call themselves may have characters that the database can't hold."""
    text = exact_json(rows)
    return exact_json(_without_nul(rows)) if "\\u0000" in text else text


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {name: _without_nul(each) for name, each in value.items()}
    return [_without_nul(each) for each in value] if isinstance(value, list | tuple) else value


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[RecentUsage], int]:
    """A page of them, newest first, and how many there are."""
    with conn.cursor(row_factory=class_row(RecentUsage)) as cursor:
        found = cursor.execute(
            f"select {_COLUMNS} from recent_usage where organization_id = %s order by id desc limit %s offset %s",
            [organization_id, limit, offset],
        ).fetchall()
    row = conn.execute(
        "select count(*) from recent_usage where organization_id = %s", [organization_id]
    ).fetchone()
    return found, row[0] if row else 0
