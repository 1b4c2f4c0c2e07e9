"""Sessions of signed-in browsers. Their secrets are kept only as SHA-256; all times are the system's."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.store.users import HAS_SECOND_FACTOR, USER_COLUMNS, User, digest_of, read_user

LIFE = timedelta(days=7)
IDLE = timedelta(hours=24)
SEEN_EVERY = timedelta(minutes=5)
CODE_LIFE = timedelta(minutes=10)
"""How long a browser may take for the code of the second factor."""
LISTED_MAX = 100

_GOES_ON = "not s.awaits_code and s.expires_at > %(now)s and s.last_seen_at > %(idle)s"


class Session(Record, kw_only=True):
    """A signed-in browser, and the organization that it looked at last."""

    digest: bytes
    user: User
    organization_id: UUID | None
    has_second_factor: bool


class Origin(Record, kw_only=True):
    """From where somebody signs in: the address, and what the browser calls itself."""

    address: str
    browser: str


class OpenSession(Record, kw_only=True):
    """A session as its user sees it in a list. `address` and `browser` are not known of old ones."""

    digest: bytes
    created_at: datetime
    last_seen_at: datetime
    address: str | None
    browser: str | None


def open_session(
    conn: Connection[Any],
    *,
    user_id: UUID,
    origin: Origin | None = None,
    awaits_code: bool = False,
    now: datetime,
) -> str:
    """A new session; its secret, which only the cookie has. Expired sessions go.

    One that awaits a code is none yet: `session` does not find it.
    """
    secret = secrets.token_urlsafe(32)
    conn.execute("delete from user_session where expires_at <= %s", [now])
    conn.execute(
        "insert into user_session (digest, user_id, created_at, last_seen_at, expires_at, address, browser,"
        " awaits_code) values (%(digest)s, %(user)s, %(now)s, %(now)s, %(end)s, %(address)s, %(browser)s, %(awaits)s)",
        {
            "digest": digest_of(secret),
            "user": user_id,
            "now": now,
            "end": now + (CODE_LIFE if awaits_code else LIFE),
            "awaits": awaits_code,
            "address": origin.address if origin else None,
            "browser": origin.browser if origin else None,
        },
    )
    return secret


def session(conn: Connection[Any], *, secret: str, now: datetime) -> Session | None:
    """The session of a cookie, None when it is over."""
    digest = digest_of(secret)
    row = conn.execute(
        f"select {USER_COLUMNS}, s.organization_id, s.last_seen_at, {HAS_SECOND_FACTOR} from user_session s"
        " join app_user u on u.id = s.user_id and u.removed_at is null"
        f" where s.digest = %(digest)s and {_GOES_ON}",
        {"digest": digest, **_instants(now)},
    ).fetchone()
    if row is None:
        return None
    if row[6] < now - SEEN_EVERY:
        conn.execute("update user_session set last_seen_at = %s where digest = %s", [now, digest])
    return Session(digest=digest, user=read_user(row), organization_id=row[5], has_second_factor=row[7])


def awaiting_code(conn: Connection[Any], *, secret: str, now: datetime) -> User | None:
    """Who has begun to sign in with this secret, and is to give a code."""
    row = conn.execute(
        f"select {USER_COLUMNS} from user_session s join app_user u on u.id = s.user_id and u.removed_at is null"
        " where s.digest = %s and s.awaits_code and s.expires_at > %s",
        [digest_of(secret), now],
    ).fetchone()
    return read_user(row) if row else None


def _instants(now: datetime) -> dict[str, datetime]:
    return {"now": now, "idle": now - IDLE}


def of_user(conn: Connection[Any], user_id: UUID, *, now: datetime) -> list[OpenSession]:
    """The user's sessions that go on, the one seen last first."""
    with conn.cursor(row_factory=class_row(OpenSession)) as cursor:
        return cursor.execute(
            "select s.digest, s.created_at, s.last_seen_at, s.address, s.browser from user_session s"
            f" where s.user_id = %(user)s and {_GOES_ON} order by s.last_seen_at desc, s.digest limit %(limit)s",
            {"user": user_id, "limit": LISTED_MAX, **_instants(now)},
        ).fetchall()


def choose_organization(conn: Connection[Any], *, digest: bytes, organization_id: UUID) -> None:
    conn.execute("update user_session set organization_id = %s where digest = %s", [organization_id, digest])


def close(conn: Connection[Any], digest: bytes) -> None:
    conn.execute("delete from user_session where digest = %s", [digest])


def close_of(conn: Connection[Any], user_id: UUID, digest: bytes) -> bool:
    """End a session of the user; whether there was such a one."""
    cursor = conn.execute("delete from user_session where digest = %s and user_id = %s", [digest, user_id])
    return cursor.rowcount == 1


def close_others(conn: Connection[Any], user_id: UUID, kept: bytes) -> int:
    """End all sessions of the user but one; how many."""
    cursor = conn.execute("delete from user_session where user_id = %s and digest <> %s", [user_id, kept])
    return cursor.rowcount
