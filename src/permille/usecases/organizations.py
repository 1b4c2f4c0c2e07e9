"""Organizations: made with a first API key; keys are revoked; the clock of one in test mode can be moved."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.api_key import Permissions
from permille.core.errors import Forbidden, NotFound
from permille.core.organization import Organization
from permille.store import api_keys, organizations
from permille.store.api_keys import NewKey, StoredKey


def create(
    conn: Connection[Any],
    *,
    name: str,
    test_now: datetime | None,
    entity: dict[str, Any],
    now: datetime,
) -> tuple[Organization, NewKey]:
    """The organization with its billing entity, and its first API key."""
    made = organizations.add(conn, name=name, test_now=test_now, entity=entity, now=now)
    return made, add_key(conn, made.id, name="first key", now=made.created_at)


def add_key(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    name: str,
    permissions: Permissions | None = None,
    expires_at: datetime | None = None,
    now: datetime,
) -> NewKey:
    """A new API key; only a digest of it is kept."""
    return api_keys.add(
        conn,
        organization_id=organization_id,
        name=name,
        permissions=permissions,
        expires_at=expires_at,
        now=now,
    )


def rotate_key(
    conn: Connection[Any], organization_id: UUID, key_id: UUID | None, *, ends_at: datetime, now: datetime
) -> NewKey:
    """A new key with the name and the permissions of another one, which ends at an instant. Raises NotFound."""
    old = _key(conn, organization_id, key_id)
    if ends_at <= now:
        api_keys.revoke(conn, old.id, now=now)
    elif old.expires_at is None or ends_at < old.expires_at:
        api_keys.expire(conn, old.id, at=ends_at)
    return add_key(conn, organization_id, name=old.name or old.prefix, permissions=old.permissions, now=now)


def revoke_key(conn: Connection[Any], organization_id: UUID, key_id: UUID | None, *, now: datetime) -> UUID:
    """The key's id. Raises NotFound for a key that there is not, or that is revoked."""
    old = _key(conn, organization_id, key_id)
    api_keys.revoke(conn, old.id, now=now)
    return old.id


def _key(conn: Connection[Any], organization_id: UUID, key_id: UUID | None) -> StoredKey:
    found = api_keys.lock(conn, organization_id, key_id) if key_id else None
    if found is None:
        raise NotFound("api_key")
    return found


def roll_hmac_key(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> str:
    """The new key that webhooks are signed with from now on, those that are sent again too."""
    return organizations.roll_hmac_key(conn, organization_id=organization_id, now=now)


def refuse_live(organization: Organization) -> None:
    """Raises Forbidden for an organization that is not in test mode: it has no clock of its own."""
    if not organization.test_mode:
        raise Forbidden("test_clock_not_available")


def auto_approve_prices(conn: Connection[Any], organization: Organization, *, is_on: bool) -> None:
    """Approve versions of the price catalogue that come in without outliers, or let all of them wait."""
    organizations.auto_approve_prices(conn, organization.id, is_on=is_on)


def require_second_factor(conn: Connection[Any], organization: Organization, *, is_required: bool) -> None:
    """Let users in only with a second factor, or without one too."""
    organizations.require_second_factor(conn, organization.id, is_required=is_required)
