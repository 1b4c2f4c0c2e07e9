"""Organizations: made with a first API key; keys are revoked; the clock of one in test mode can be moved."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Forbidden, NotFound
from permille.core.organization import Organization
from permille.store import organizations
from permille.store.organizations import NewKey


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
    _, key = add_key(conn, made.id, name="first key", now=made.created_at)
    return made, key


def add_key(conn: Connection[Any], organization_id: UUID, *, name: str, now: datetime) -> tuple[UUID, NewKey]:
    """A new API key; only a digest of it is kept."""
    return organizations.add_key(conn, organization_id=organization_id, name=name, now=now)


def roll_hmac_key(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> str:
    """The new key that webhooks are signed with from now on, those that are sent again too."""
    return organizations.roll_hmac_key(conn, organization_id=organization_id, now=now)


def revoke_key(conn: Connection[Any], organization_id: UUID, key_id: UUID | None, *, now: datetime) -> UUID:
    """The key's id. Raises NotFound for a key that there is not, or that is revoked."""
    if key_id is None or not organizations.revoke_key(
        conn, organization_id=organization_id, key_id=key_id, now=now
    ):
        raise NotFound("api_key")
    return key_id


def refuse_live(organization: Organization) -> None:
    """Raises Forbidden for an organization that is not in test mode: it has no clock of its own."""
    if not organization.test_mode:
        raise Forbidden("test_clock_not_available")


def require_second_factor(conn: Connection[Any], organization: Organization, *, is_required: bool) -> None:
    """Let users in only with a second factor, or without one too."""
    organizations.require_second_factor(conn, organization.id, is_required=is_required)
