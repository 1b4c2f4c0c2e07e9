"""Who works in the web admin: users, their roles in organizations, and one-time links.

Secrets are 256 bits of chance, kept only as SHA-256. All times are the system's, in test mode too.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.ids import new_id

ROLES = ("admin", "finance", "read_only")
"""Roles in an organization: admin may do everything, finance all but users and keys, read_only looks."""

LINK_LIFE = timedelta(hours=24)

_FIRST_USER_LOCK = 0x50455553  # "PEUS"


class User(Record, kw_only=True):
    """Somebody who may sign in. An owner is an admin of every organization and may make new ones."""

    id: UUID
    email: str
    password_hash: str | None
    is_owner: bool
    created_at: datetime


class Member(Record, kw_only=True):
    """A user with the role in one organization; owners have none of their own, they are admins everywhere."""

    user: User
    role: str | None
    since: datetime
    has_second_factor: bool


class OneTimeLink(Record, kw_only=True):
    """A link that has not been used and has not expired: for a user, for the first one, or an invitation."""

    digest: bytes
    user_id: UUID | None
    organization_id: UUID | None
    role: str | None
    is_first: bool
    path: str


_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|[^@\s]+@localhost")


def email_problem(email: str) -> str | None:
    """A code for what cannot be an email address."""
    if not email:
        return "value_is_mandatory"
    return None if len(email) <= 255 and _EMAIL.fullmatch(email) else "value_is_invalid"


def local_path(wanted: str) -> str:
    """Where to go after signing in: a page of ours, never another site."""
    is_ours = wanted == "/app" or wanted.startswith(("/app/", "/app?"))
    return wanted if is_ours and "\\" not in wanted and wanted.isprintable() else "/app"


def digest_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


USER_COLUMNS = "u.id, u.email, u.password_hash, u.is_owner, u.created_at"


HAS_SECOND_FACTOR = (
    "exists (select from second_factor f where f.user_id = u.id and f.confirmed_at is not null)"
)


def _user(conn: Connection[Any], condition: str, value: Any) -> User | None:
    with conn.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(
            f"select {USER_COLUMNS} from app_user u where {condition} and u.removed_at is null", [value]
        ).fetchone()


def by_email(conn: Connection[Any], email: str) -> User | None:
    return _user(conn, "lower(u.email) = lower(%s)", email)


def by_id(conn: Connection[Any], user_id: UUID) -> User | None:
    return _user(conn, "u.id = %s", user_id)


def hold(conn: Connection[Any], user_id: UUID) -> bool:
    """Whether the user is there; if so, nobody removes the user before the transaction ends."""
    row = conn.execute(
        "select from app_user where id = %s and removed_at is null for no key update", [user_id]
    ).fetchone()
    return row is not None


def members(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[Member], int]:
    """The owners and those with a role in the organization, the longest first; and how many they are."""
    chosen = (
        "from app_user u left join membership m on m.user_id = u.id and m.organization_id = %s"
        " where u.removed_at is null and (u.is_owner or m.role is not null)"
    )
    rows = conn.execute(
        f"select {USER_COLUMNS}, m.role, coalesce(m.created_at, u.created_at) as since, {HAS_SECOND_FACTOR} {chosen}"
        " order by u.is_owner desc, since, u.id limit %s offset %s",
        [organization_id, limit, offset],
    ).fetchall()
    row = conn.execute(f"select count(*) {chosen}", [organization_id]).fetchone()
    found = [
        Member(user=read_user(each), role=each[5], since=each[6], has_second_factor=each[7]) for each in rows
    ]
    return found, row[0] if row else 0


def read_user(row: Sequence[Any]) -> User:
    """The user in the first columns of a row, which are USER_COLUMNS."""
    return User(id=row[0], email=row[1], password_hash=row[2], is_owner=row[3], created_at=row[4])


def role_in(conn: Connection[Any], user_id: UUID, organization_id: UUID) -> str | None:
    """The user's own role in the organization."""
    row = conn.execute(
        "select role from membership where user_id = %s and organization_id = %s", [user_id, organization_id]
    ).fetchone()
    return row[0] if row else None


def is_admitted(conn: Connection[Any], user: User, organization_id: UUID) -> bool:
    """Whether the user may look at the organization."""
    return user.is_owner or role_in(conn, user.id, organization_id) is not None


def memberships(conn: Connection[Any], user_id: UUID) -> int:
    """In how many organizations the user has a role."""
    row = conn.execute("select count(*) from membership where user_id = %s", [user_id]).fetchone()
    return row[0] if row else 0


def join_organization(
    conn: Connection[Any], *, user_id: UUID, organization_id: UUID, role: str, now: datetime
) -> bool:
    """Give the user a role in the organization; False when there is one already, which stays."""
    cursor = conn.execute(
        "insert into membership (user_id, organization_id, role, created_at) values (%s, %s, %s, %s)"
        " on conflict do nothing",
        [user_id, organization_id, role, now],
    )
    return cursor.rowcount == 1


def change_role(conn: Connection[Any], *, user_id: UUID, organization_id: UUID, role: str) -> None:
    """Give a member another role."""
    conn.execute(
        "update membership set role = %s where user_id = %s and organization_id = %s",
        [role, user_id, organization_id],
    )


def leave_organization(conn: Connection[Any], *, user_id: UUID, organization_id: UUID) -> None:
    """Take the user's role in the organization away, at once in all browsers."""
    conn.execute(
        "delete from membership where user_id = %s and organization_id = %s", [user_id, organization_id]
    )
    conn.execute(
        "update user_session set organization_id = null where user_id = %s and organization_id = %s",
        [user_id, organization_id],
    )


def is_anybody(conn: Connection[Any]) -> bool:
    """Whether there has ever been a user."""
    row = conn.execute("select exists (select from app_user)").fetchone()
    return bool(row and row[0])


def lock_first_user(conn: Connection[Any]) -> None:
    """Until the transaction ends nobody else becomes the first user."""
    conn.execute("select pg_advisory_xact_lock(%s)", [_FIRST_USER_LOCK])


def add(
    conn: Connection[Any], *, email: str, password_hash: str | None, is_owner: bool, now: datetime
) -> User | None:
    """A new user, None when the email is taken."""
    row = conn.execute(
        "insert into app_user (id, email, password_hash, is_owner, created_at) values (%s, %s, %s, %s, %s)"
        " on conflict (lower(email)) where removed_at is null do nothing returning id",
        [new_id(now), email, password_hash, is_owner, now],
    ).fetchone()
    return by_id(conn, row[0]) if row else None


def remove(conn: Connection[Any], *, user_id: UUID, now: datetime) -> None:
    """The user is signed out everywhere and may not sign in again; what the audit log says stays."""
    conn.execute("delete from membership where user_id = %s", [user_id])
    conn.execute("update app_user set removed_at = %s where id = %s", [now, user_id])
    conn.execute("delete from user_session where user_id = %s", [user_id])
    conn.execute("delete from known_browser where user_id = %s", [user_id])
    conn.execute("delete from recovery_code where user_id = %s", [user_id])
    conn.execute("delete from second_factor where user_id = %s", [user_id])
    conn.execute("delete from sign_in_identity where user_id = %s", [user_id])
    conn.execute("delete from one_time_link where user_id = %s", [user_id])


def set_password(conn: Connection[Any], *, user_id: UUID, password_hash: str) -> None:
    conn.execute("update app_user set password_hash = %s where id = %s", [password_hash, user_id])


def _add_link(conn: Connection[Any], *, now: datetime, path: str = "/app", **columns: Any) -> str:
    """A new one-time link; its token, which is not stored."""
    token = secrets.token_urlsafe(32)
    values = {"user_id": None, "organization_id": None, "role": None, "is_first": False, **columns}
    conn.execute(
        "insert into one_time_link (digest, user_id, organization_id, role, is_first, path, created_at, expires_at)"
        " values (%(digest)s, %(user_id)s, %(organization_id)s, %(role)s, %(is_first)s, %(path)s, %(now)s, %(end)s)",
        {**values, "digest": digest_of(token), "path": path, "now": now, "end": now + LINK_LIFE},
    )
    return token


def add_first_link(conn: Connection[Any], *, now: datetime) -> str:
    """A one-time link by which somebody becomes the first user, an owner; its token."""
    return _add_link(conn, now=now, is_first=True)


def add_invitation(conn: Connection[Any], *, organization_id: UUID, role: str, now: datetime) -> str:
    """A one-time link that gives a new or an existing user a role in the organization; its token."""
    return _add_link(conn, now=now, organization_id=organization_id, role=role)


def add_sign_in_link(
    conn: Connection[Any],
    *,
    email: str,
    now: datetime,
    organization_id: UUID | None = None,
    role: str = "admin",
    path: str = "/app",
) -> str:
    """A one-time link by which the user with this email signs in; its token.

    A user who is not there is made: with a role in the organization, or without one as an owner. A user who is there
    joins the organization; a role that the user has stays.
    """
    is_owner = organization_id is None
    user = by_email(conn, email)
    if user is None or not hold(conn, user.id):
        user = add(conn, email=email, password_hash=None, is_owner=is_owner, now=now)
    assert user is not None, "the email is either known or free"
    if organization_id is not None:
        join_organization(conn, user_id=user.id, organization_id=organization_id, role=role, now=now)
    return _add_link(conn, now=now, user_id=user.id, path=path)


def link(conn: Connection[Any], *, token: str, now: datetime) -> OneTimeLink | None:
    """The link, None when it was used, has expired, or is for a first user that is there already."""
    with conn.cursor(row_factory=class_row(OneTimeLink)) as cursor:
        return cursor.execute(
            "select digest, user_id, organization_id, role, is_first, path from one_time_link"
            " where digest = %s and used_at is null and expires_at > %s"
            " and not (is_first and exists (select from app_user))",
            [digest_of(token), now],
        ).fetchone()


def use_link(conn: Connection[Any], *, digest: bytes, now: datetime) -> bool:
    """Whether it was still unused; of several at once, one."""
    cursor = conn.execute(
        "update one_time_link set used_at = %s where digest = %s and used_at is null", [now, digest]
    )
    return cursor.rowcount == 1
