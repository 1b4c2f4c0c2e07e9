"""The audit log: what somebody changes leaves an entry, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille import request_ids
from permille.core.organization import Organization
from permille.core.record import replace
from permille.ids import new_id
from permille.store import activity
from permille.store.activity import ActorKind, Change
from permille.store.users import User


def begin(
    conn: Connection[Any],
    actor: ActorKind,
    operation: str,
    *,
    organization: Organization | None = None,
    user: User | None = None,
    api_key_id: UUID | None = None,
    now: datetime,
) -> Change:
    """Say whose the transaction's changes are. `now` is the system's clock."""
    change = Change(
        id=new_id(now),
        actor=actor,
        operation=operation,
        at=now,
        organization_id=organization.id if organization else None,
        organization_at=organization.now(now) if organization else None,
        user_id=user.id if user else None,
        user_email=user.email if user else None,
        api_key_id=api_key_id,
        request_id=request_ids.current.get(),
    )
    activity.begin(conn, change)
    return change


def describe(
    conn: Connection[Any],
    change: Change,
    *,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
    user: User | None = None,
) -> None:
    """Say in words what a change was; `user` is somebody who came to be by it."""
    if user is not None:
        change = replace(change, user_id=user.id, user_email=user.email)
    activity.describe(conn, change, action=action, subject=subject, details=details or {})
