"""Users of the web admin: how they come to be, and get, change and lose roles in organizations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotFound
from permille.store import organizations, sessions, users
from permille.store.activity import ActorKind, Change
from permille.store.sessions import Session
from permille.store.users import OneTimeLink, User
from permille.usecases import activity


def first_link(conn: Connection[Any], *, now: datetime) -> str | None:
    """The token of a one-time link for the first user; None when there is one already."""
    return None if users.is_anybody(conn) else users.add_first_link(conn, now=now)


def add_sign_in_link(
    conn: Connection[Any],
    *,
    email: str,
    organization_id: UUID | None,
    role: str,
    path: str = "/app",
    now: datetime,
) -> str:
    """The token of a one-time link for the user with this email, who is made if there is none.

    With an organization it is a user with the role there, else an owner.
    """
    return users.add_sign_in_link(
        conn, email=email, organization_id=organization_id, role=role, path=path, now=now
    )


def use_link(conn: Connection[Any], link: OneTimeLink, *, now: datetime) -> bool:
    """Whether the link was still unused; of several uses at once, one."""
    return users.use_link(conn, digest=link.digest, now=now)


def join(
    conn: Connection[Any], link: OneTimeLink, *, email: str, password_hash: str, now: datetime
) -> User | None:
    """The user who comes to be by a link; None when the email is taken, the link used, or the first user there already."""
    change = _begin(conn, link, now=now)
    users.lock_first_user(conn)
    if link.is_first and users.is_anybody(conn):
        return None
    user = users.add(conn, email=email, password_hash=password_hash, is_owner=link.is_first, now=now)
    if user is None or not use_link(conn, link, now=now):
        conn.rollback()
        return None
    _give(conn, link, user, change, now=now)
    return user


def accept(conn: Connection[Any], link: OneTimeLink, visitor: Session, *, now: datetime) -> bool:
    """Whether the visitor was still a user and the invitation unused; the browser looks at the organization next."""
    assert link.organization_id is not None, "only an invitation has a visitor"
    change = _begin(conn, link, user=visitor.user, now=now)
    if not users.hold(conn, visitor.user.id) or not use_link(conn, link, now=now):
        return False
    _give(conn, link, visitor.user, change, now=now)
    sessions.choose_organization(conn, digest=visitor.digest, organization_id=link.organization_id)
    return True


def _begin(conn: Connection[Any], link: OneTimeLink, *, user: User | None = None, now: datetime) -> Change:
    found = organizations.by_id(conn, link.organization_id) if link.organization_id else None
    return activity.begin(
        conn, ActorKind.USER, "POST /app/link/{token}", organization=found, user=user, now=now
    )


def _give(conn: Connection[Any], link: OneTimeLink, user: User, change: Change, *, now: datetime) -> None:
    """Give the user what the link gives, and write that into the audit log."""
    if link.organization_id is not None:
        assert link.role is not None, "an invitation has a role"
        organization_id = link.organization_id
        users.join_organization(
            conn, user_id=user.id, organization_id=organization_id, role=link.role, now=now
        )
    activity.describe(
        conn,
        change,
        action="joined",
        subject=user.email,
        details={"role": link.role or "owner"},
        user=user,
    )


def switch_organization(conn: Connection[Any], visitor: Session, organization_id: UUID | None) -> None:
    """Let the browser look at an organization in which its user has a role. Raises NotFound."""
    found = organizations.by_id(conn, organization_id) if organization_id else None
    if found is None or not users.is_admitted(conn, visitor.user, found.id):
        raise NotFound("organization")
    sessions.choose_organization(conn, digest=visitor.digest, organization_id=found.id)


def invite(conn: Connection[Any], organization_id: UUID, *, role: str, now: datetime) -> str:
    """The token of a one-time link that gives a new or an existing user the role."""
    return users.add_invitation(conn, organization_id=organization_id, role=role, now=now)


def change_role(
    conn: Connection[Any], organization_id: UUID, user_id: UUID | None, *, by: User, role: str
) -> User:
    """Give a member another role. Nobody changes their own, so an admin is always left. Raises NotFound and Invalid."""
    found = other_member(conn, organization_id, user_id, by=by)
    users.change_role(conn, user_id=found.id, organization_id=organization_id, role=role)
    return found


def remove_from(
    conn: Connection[Any], organization_id: UUID, user_id: UUID | None, *, by: User, now: datetime
) -> User:
    """Take a member out of the organization; who is left in none is no user any more. Raises NotFound and Invalid."""
    found = other_member(conn, organization_id, user_id, by=by)
    users.leave_organization(conn, user_id=found.id, organization_id=organization_id)
    if not users.memberships(conn, found.id):
        users.remove(conn, user_id=found.id, now=now)
    return found


def other_member(conn: Connection[Any], organization_id: UUID, user_id: UUID | None, *, by: User) -> User:
    """Somebody else with a role in the organization. Raises NotFound and Invalid."""
    found = users.by_id(conn, user_id) if user_id else None
    if found is not None and found.id == by.id:
        raise Invalid({"base": ["own_user"]})
    held = found is not None and users.hold(conn, found.id)
    if found is None or not held or users.role_in(conn, found.id, organization_id) is None:
        raise NotFound("user")
    if found.is_owner:
        raise Invalid({"base": ["owner_user"]})
    return found
