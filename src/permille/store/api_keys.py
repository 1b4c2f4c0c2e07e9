"""API keys: kept as digests, with what they may do, until when, and when they were last used."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from permille.core.api_key import ApiKey, Permissions
from permille.core.organization import Organization
from permille.core.record import Record
from permille.database.bulk import instant_array, uuid_array
from permille.ids import new_id
from permille.store import organizations

KEY_PREFIX = "pm_"
CHANNEL = "permille_api_key"
"""Where servers hear the ids of keys that have changed, when the change is committed."""


class NewKey(Record, kw_only=True):
    """An API key in clear: shown once, then only its digest, prefix and last four characters are known."""

    id: UUID
    secret: str
    prefix: str


class StoredKey(Record, kw_only=True):
    """An API key as it is listed. `permissions` None: all of them."""

    id: UUID
    name: str | None
    prefix: str
    last_four: str
    permissions: Permissions | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""


_STORED = (
    "id, name, prefix, last_four, permissions, created_at, expires_at, revoked_at, last_used_at from api_key"
)


def key_digest(secret: str) -> bytes:
    """SHA-256: the key has 256 bits of chance, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()


def by_secret(conn: Connection[Any], secret: str, *, now: datetime) -> ApiKey | None:
    """The key, None for an unknown, revoked or expired one. `now` is the system's clock."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"select k.id as key_id, k.permissions, k.expires_at, {organizations.COLUMNS}"
            " from api_key k join organization o on o.id = k.organization_id"
            " where k.digest = %s and k.revoked_at is null and (k.expires_at is null or k.expires_at > %s)",
            [key_digest(secret), now],
        ).fetchone()
    if row is None:
        return None
    key_id, permissions, expires_at = (row.pop(name) for name in ("key_id", "permissions", "expires_at"))
    return ApiKey(id=key_id, organization=Organization(**row), permissions=permissions, expires_at=expires_at)


def add(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    name: str | None,
    permissions: Permissions | None = None,
    expires_at: datetime | None = None,
    now: datetime,
) -> NewKey:
    """A new key."""
    secret, key_id = KEY_PREFIX + secrets.token_urlsafe(32), new_id(now)
    prefix = secret[: len(KEY_PREFIX) + 4]
    conn.execute(
        "insert into api_key (id, organization_id, name, digest, prefix, last_four, permissions, expires_at, created_at)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            key_id,
            organization_id,
            name,
            key_digest(secret),
            prefix,
            secret[-4:],
            None if permissions is None else Jsonb(dict(permissions)),
            expires_at,
            now,
        ],
    )
    return NewKey(id=key_id, secret=secret, prefix=prefix)


def of_organization(conn: Connection[Any], organization_id: UUID) -> list[StoredKey]:
    """The organization's keys, revoked ones too, the oldest first."""
    with conn.cursor(row_factory=class_row(StoredKey)) as cursor:
        return cursor.execute(
            f"select {_STORED} where organization_id = %s order by created_at, id", [organization_id]
        ).fetchall()


def lock(conn: Connection[Any], organization_id: UUID, key_id: UUID) -> StoredKey | None:
    """A key of the organization that is not revoked; nobody else changes it until the transaction ends."""
    with conn.cursor(row_factory=class_row(StoredKey)) as cursor:
        return cursor.execute(
            f"select {_STORED} where organization_id = %s and id = %s and revoked_at is null for no key update",
            [organization_id, key_id],
        ).fetchone()


def revoke(conn: Connection[Any], key_id: UUID, *, now: datetime) -> None:
    """The key opens nothing any more, on every server from the commit on."""
    conn.execute("update api_key set revoked_at = %s where id = %s", [now, key_id])
    _notify(conn, key_id)


def expire(conn: Connection[Any], key_id: UUID, *, at: datetime) -> None:
    """The key opens nothing from an instant on."""
    conn.execute("update api_key set expires_at = %s where id = %s", [at, key_id])
    _notify(conn, key_id)


def _notify(conn: Connection[Any], key_id: UUID) -> None:
    conn.execute("select pg_notify(%s, %s)", [CHANNEL, str(key_id)])


def look_up_again(conn: Connection[Any]) -> None:
    """Let every server forget what it remembers of keys and of whose they are, from the commit on."""
    conn.execute("select pg_notify(%s, '')", [CHANNEL])


def used(conn: Connection[Any], at: Mapping[UUID, datetime]) -> None:
    """When keys were last used, as far as that is later than what is known."""
    conn.execute(
        "update api_key k set last_used_at = u.at from unnest(%s::uuid[], %s::timestamptz[]) as u (id, at)"
        " where k.id = u.id and (k.last_used_at is null or k.last_used_at < u.at)",
        [uuid_array(at), instant_array(at.values())],
    )
