"""Calls that were counted under the name that was sent, because it says nothing about the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.llm.model_alias import ModelAlias, Outcome
from permille.core.record import Record
from permille.database.bulk import text_array
from permille.database.connections import exact_json


class UnknownModelCall(Record, kw_only=True):
    """A call, and those of its events that have the unknown name."""

    organization_id: UUID
    name: str
    identity: str
    transaction_ids: Sequence[str]
    at: datetime


class UnknownModel(Record, kw_only=True):
    """A name that says nothing about the model, and the calls that wait under it."""

    name: str
    model: str | None
    """The model that it is an alias of by now."""
    calls_count: int
    first_used_at: datetime | None
    last_used_at: datetime | None


_ADD = """
insert into unknown_model_call (organization_id, name, identity, transaction_ids, at)
select organization_id, name, identity, transaction_ids, at
from jsonb_populate_recordset(null::unknown_model_call, %s::jsonb)
on conflict do nothing
"""

_WAITING = "u.organization_id = %(organization)s and u.outcome is null"

_SUMMED = f"""
select u.name, a.model, count(*) as calls_count, min(u.at) as first_used_at, max(u.at) as last_used_at
from unknown_model_call u
left join model_alias a on a.organization_id = u.organization_id and a.name = u.name
where {_WAITING} and (%(name)s::text is null or u.name = %(name)s)
group by u.name, a.model
"""


def add(conn: Connection[Any], calls: Sequence[UnknownModelCall]) -> None:
    """Keep them; a call that comes again is kept once."""
    conn.execute(_ADD, [exact_json(calls)])


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[UnknownModel], int]:
    """A page of the names under which calls wait, those used last first, and how many there are."""
    values = {"organization": organization_id, "name": None, "limit": limit, "offset": offset}
    with conn.cursor(row_factory=class_row(UnknownModel)) as cursor:
        found = cursor.execute(
            f"{_SUMMED} order by last_used_at desc, name limit %(limit)s offset %(offset)s", values
        ).fetchall()
    return found, count(conn, organization_id)


# From name to name, however many calls each has.
_COUNT = f"""
with recursive names as (
    (select u.name from unknown_model_call u where {_WAITING} order by u.name limit 1)
    union all
    select (select u.name from unknown_model_call u where {_WAITING} and u.name > n.name order by u.name limit 1)
    from names n where n.name is not null
)
select count(name) from names
"""


def count(conn: Connection[Any], organization_id: UUID) -> int:
    """The number of names under which calls wait."""
    row = conn.execute(_COUNT, {"organization": organization_id}).fetchone()
    return row[0] if row else 0


def by_name(conn: Connection[Any], organization_id: UUID, name: str) -> UnknownModel | None:
    """The calls that wait under a name."""
    with conn.cursor(row_factory=class_row(UnknownModel)) as cursor:
        return cursor.execute(_SUMMED, {"organization": organization_id, "name": name}).fetchone()


def waiting(conn: Connection[Any], alias: ModelAlias, *, limit: int) -> list[UnknownModelCall]:
    """The first calls that wait under the alias, locked until the transaction ends."""
    with conn.cursor(row_factory=class_row(UnknownModelCall)) as cursor:
        return cursor.execute(
            "select u.organization_id, u.name, u.identity, u.transaction_ids, u.at from unknown_model_call u"
            f" where {_WAITING} and u.name = %(name)s order by u.identity limit %(limit)s for update",
            {"organization": alias.organization_id, "name": alias.name, "limit": limit},
        ).fetchall()


def wait_again(conn: Connection[Any], alias: ModelAlias) -> None:
    """Calls that were moved to another model than the alias says now are to be moved again."""
    conn.execute(
        "update unknown_model_call set outcome = null where organization_id = %s and name = %s"
        " and outcome = 'moved' and counted_as <> %s",
        [alias.organization_id, alias.name, alias.model],
    )


def decide(conn: Connection[Any], alias: ModelAlias, outcomes: Mapping[str, Outcome]) -> None:
    """Note what became of calls, by their identities."""
    conn.execute(
        "update unknown_model_call u set outcome = o.outcome, counted_as = %s"
        " from unnest(%s::text[], %s::text[]) as o (identity, outcome)"
        " where u.organization_id = %s and u.name = %s and u.identity = o.identity",
        [
            alias.model,
            text_array(outcomes),
            text_array(outcomes.values()),
            alias.organization_id,
            alias.name,
        ],
    )
