"""Who changes what: the database keeps the changed fields of each object, for transactions that say whose they are.

Triggers on the tables do that (database/schema.sql lists them), so no change of them goes by unseen, whatever made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from permille.core.record import Record, field
from permille.database.connections import exact_json
from permille.ids import new_id

BATCH = 500
"""Entries that an export reads at a time."""


class ActorKind(StrEnum):
    """What somebody makes changes with."""

    USER = "user"
    API_KEY = "api_key"
    ADMIN_KEY = "admin_key"
    COMMAND_LINE = "command_line"


class Change(Record, kw_only=True):
    """A request or a command that may change something: all that it changes belongs to one entry."""

    id: UUID
    actor: ActorKind
    operation: str
    """The method and the address of the request, or the command."""
    at: datetime
    """By the system's clock."""
    organization_id: UUID | None = None
    organization_at: datetime | None = None
    user_id: UUID | None = None
    user_email: str | None = None
    api_key_id: UUID | None = None
    request_id: str | None = None


class ObjectChange(Record, kw_only=True):
    """What became of one object: the fields that differ, each before and after."""

    id: UUID
    entry_id: UUID
    organization_id: UUID | None
    object_type: str
    object_id: str
    object_code: str | None
    external_customer_id: str | None
    external_subscription_id: str | None
    action: str
    changes: Mapping[str, Sequence[Any]]
    at: datetime
    actor: str
    user_email: str | None


class Entry(Record, kw_only=True):
    """What one request has changed, and whose it was."""

    id: UUID
    actor: str
    user_email: str | None
    api_key_id: UUID | None
    api_key_prefix: str | None
    action: str
    subject: str
    details: Mapping[str, Any]
    operation: str
    at: datetime
    organization_at: datetime | None
    request_id: str | None
    objects: Sequence[Mapping[str, Any]]

    @property
    def who(self) -> str:
        """The user, the beginning of the key, or what else it was."""
        return self.user_email or self.api_key_prefix or self.actor.replace("_", " ")


class EntrySearch(Record, kw_only=True):
    """Every condition that is given must hold; the bounds are inclusive."""

    who: str | None = None
    """An email, the beginning of a key, or a kind of actor."""
    what: str | None = None
    """The id or the code of an object."""
    since: datetime | None = None
    until: datetime | None = None


class ChangeSearch(Record, kw_only=True):
    """Every condition that is given must hold; the bounds are inclusive."""

    since: datetime | None = None
    until: datetime | None = None
    actors: Sequence[str] = ()
    user_emails: Sequence[str] = ()
    types_and_actions: Sequence[str] = ()
    """`plan.updated` and so on."""
    object_types: Sequence[str] = ()
    object_ids: Sequence[str] = ()
    external_customer_id: str | None = None
    external_subscription_id: str | None = None
    id: UUID | None = None


def begin(conn: Connection[Any], change: Change) -> None:
    """From now on, what the transaction changes belongs to the change."""
    conn.execute(
        "select set_config('permille.change', (%s::jsonb || jsonb_build_object('api_key_prefix',"
        " (select prefix from api_key where id = %s)))::text, true)",
        [exact_json(change), change.api_key_id],
    )


_DELETE_OLDER = """
with gone as (
    select id from audit_entry where id < %(id)s and at < %(before)s order by id limit %(limit)s
), changes as (
    delete from audit_change c using gone where c.entry_id = gone.id
)
delete from audit_entry e using gone where e.id = gone.id
"""


def delete_older(conn: Connection[Any], *, before: datetime, limit: int = 500) -> int:
    """Delete the oldest entries from before an instant, with the objects that they name; how many entries.

    They are found by their ids, which begin with the time.
    """
    return conn.execute(_DELETE_OLDER, {"id": new_id(before), "before": before, "limit": limit}).rowcount


def describe(
    conn: Connection[Any], change: Change, *, action: str, subject: str, details: Mapping[str, Any]
) -> None:
    """Say in words what the change was. It gets an entry even if no object differs."""
    conn.execute(
        "insert into audit_entry as e (id, organization_id, user_id, user_email, action, subject, details, at, actor,"
        " operation, organization_at, request_id) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict (id) do update set action = excluded.action, subject = excluded.subject,"
        " details = excluded.details, user_id = excluded.user_id, user_email = excluded.user_email",
        [
            change.id,
            change.organization_id,
            change.user_id,
            change.user_email,
            action,
            subject,
            Jsonb(dict(details)),
            change.at,
            change.actor,
            change.operation,
            change.organization_at,
            change.request_id,
        ],
    )


class _Where(Record):
    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        """The condition, unless there is no value for it."""
        if values[0] is not None and values[0] != []:
            self.parts.append(condition)
            self.values.extend(values)

    @property
    def text(self) -> str:
        return " and ".join(self.parts)


_ENTRY = (
    "select e.id, e.actor, e.user_email, e.api_key_id, e.api_key_prefix, e.action, e.subject, e.details, e.operation, e.at,"
    " e.organization_at, e.request_id, array(select jsonb_build_object('object_type', c.object_type, 'object_id',"
    " c.object_id, 'object_code', c.object_code, 'action', c.action, 'changes', c.changes) from audit_change c"
    " where c.entry_id = e.id order by c.object_type, c.object_id) as objects from audit_entry e"
)


def _chosen(organization_id: UUID, search: EntrySearch, *, with_installation: bool) -> _Where:
    where = _Where()
    of_installation = " or e.organization_id is null" if with_installation else ""
    where.add(f"(e.organization_id = %s{of_installation})", organization_id)
    kind = search.who if search.who in list(ActorKind) else None
    where.add("e.actor = %s", kind)
    if kind is None:
        where.add("(e.user_email = %s or e.api_key_prefix = %s)", search.who, search.who)
    where.add("e.at >= %s", search.since)
    where.add("e.at <= %s", search.until)
    where.add(
        "(e.subject = %s or e.id in (select entry_id from audit_change where organization_id = %s and object_code = %s"
        " union all select entry_id from audit_change where organization_id = %s and object_id = %s))",
        *(
            [search.what, organization_id, search.what, organization_id, search.what]
            if search.what
            else [None]
        ),
    )
    return where


def entries(
    conn: Connection[Any],
    organization_id: UUID,
    search: EntrySearch,
    *,
    with_installation: bool,
    limit: int,
    offset: int,
) -> tuple[list[Entry], int]:
    """What was changed in the organization, newest first, and how many entries that is.

    `with_installation` adds what belongs to no organization, such as the first user.
    """
    where = _chosen(organization_id, search, with_installation=with_installation)
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        rows = cursor.execute(
            f"{_ENTRY} where {where.text} order by e.at desc, e.id desc limit %s offset %s",
            [*where.values, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) from audit_entry e where {where.text}", where.values).fetchone()
    return rows, row[0] if row else 0


def all_entries(
    conn: Connection[Any], organization_id: UUID, search: EntrySearch, *, with_installation: bool, limit: int
) -> Iterator[Entry]:
    """The same as one list, read as it is consumed."""
    where = _chosen(organization_id, search, with_installation=with_installation)
    with conn.cursor("audit_entries", row_factory=class_row(Entry)) as cursor:
        cursor.itersize = BATCH
        cursor.execute(
            f"{_ENTRY} where {where.text} order by e.at desc, e.id desc limit %s", [*where.values, limit]
        )
        yield from cursor


def changes(
    conn: Connection[Any], organization_id: UUID, search: ChangeSearch, *, limit: int, offset: int
) -> tuple[list[ObjectChange], int]:
    """The changed objects of an organization, newest first, and how many there are."""
    where = _Where()
    where.add("c.organization_id = %s", organization_id)
    where.add("c.id = %s", search.id)
    where.add("c.at >= %s", search.since)
    where.add("c.at <= %s", search.until)
    where.add("e.actor = any(%s)", list(search.actors))
    where.add("e.user_email = any(%s)", list(search.user_emails))
    where.add("c.object_type || '.' || c.action = any(%s)", list(search.types_and_actions))
    where.add("c.object_type = any(%s)", list(search.object_types))
    where.add("c.object_id = any(%s)", list(search.object_ids))
    where.add("c.external_subscription_id = %s", search.external_subscription_id)
    where.add(
        "c.customer_id in (select id from customer where organization_id = c.organization_id and external_id = %s)",
        search.external_customer_id,
    )
    source = f"from audit_change c join audit_entry e on e.id = c.entry_id where {where.text}"
    with conn.cursor(row_factory=class_row(ObjectChange)) as cursor:
        rows = cursor.execute(
            "select c.id, c.entry_id, c.organization_id, c.object_type, c.object_id, c.object_code,"
            " (select external_id from customer where id = c.customer_id) as external_customer_id,"
            " c.external_subscription_id, c.action, c.changes, c.at, e.actor, e.user_email"
            f" {source} order by c.at desc, c.id desc limit %s offset %s",
            [*where.values, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) {source}", where.values).fetchone()
    return rows, row[0] if row else 0
