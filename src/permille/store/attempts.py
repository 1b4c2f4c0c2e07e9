"""Attempts to sign in that failed or are under way, and the browsers in which somebody has signed in before."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.ids import new_id
from permille.store.users import digest_of

KEPT = timedelta(minutes=15)
BROWSER_LIFE = timedelta(days=400)
"""As long as browsers keep cookies."""
BROWSERS_MAX = 20
"""Browsers in which a user is known, the last used ones."""
_FORGOTTEN_AT_ONCE = 100

_FORGET_OLD = """
delete from sign_in_failure where id in (
    select id from sign_in_failure where at <= %s order by at limit %s for update skip locked
)
"""


def count(conn: Connection[Any], subjects: Sequence[str], *, now: datetime) -> Mapping[str, int]:
    """How many attempts of late count for each subject. Nobody else counts for them until the transaction ends."""
    for subject in sorted(subjects):
        conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"sign-in {subject}"])
    conn.execute(_FORGET_OLD, [now - KEPT, _FORGOTTEN_AT_ONCE])
    rows = conn.execute(
        "select subject, count(*) from sign_in_failure where subject = any(%s) and at > %s group by subject",
        [list(subjects), now - KEPT],
    ).fetchall()
    return dict(rows)


def add(conn: Connection[Any], subjects: Sequence[str], *, now: datetime) -> list[UUID]:
    """Write an attempt down for each of the subjects."""
    ids = [new_id(now) for _ in subjects]
    conn.execute(
        "insert into sign_in_failure (id, subject, at) select id, subject, %s"
        " from unnest(%s::uuid[], %s::text[]) as attempt (id, subject)",
        [now, ids, list(subjects)],
    )
    return ids


def take_back(conn: Connection[Any], ids: Sequence[UUID]) -> None:
    """These attempts were no failures."""
    conn.execute("delete from sign_in_failure where id = any(%s)", [list(ids)])


def forget(conn: Connection[Any], subjects: Sequence[str]) -> None:
    """No failure counts for the subjects any more."""
    conn.execute("delete from sign_in_failure where subject = any(%s)", [list(subjects)])


def is_known(conn: Connection[Any], *, token: str, user_id: UUID, now: datetime) -> bool:
    """Whether the user has signed in before in the browser that has this token."""
    row = conn.execute(
        "select from known_browser where digest = %s and user_id = %s and used_at > %s",
        [digest_of(token), user_id, now - BROWSER_LIFE],
    ).fetchone()
    return row is not None


def remember_browser(conn: Connection[Any], *, token: str, user_id: UUID, now: datetime) -> str:
    """Know the browser of the user from now on; its token, a new one where the one it has is not ours."""
    is_ours = conn.execute("select from known_browser where digest = %s limit 1", [digest_of(token)])
    if is_ours.fetchone() is None:
        token = secrets.token_urlsafe(32)
    conn.execute(
        "insert into known_browser (digest, user_id, used_at) values (%s, %s, %s)"
        " on conflict (digest, user_id) do update set used_at = excluded.used_at",
        [digest_of(token), user_id, now],
    )
    conn.execute(
        "delete from known_browser where user_id = %(user)s and (used_at <= %(before)s or digest not in"
        " (select digest from known_browser where user_id = %(user)s order by used_at desc, digest limit %(most)s))",
        {"user": user_id, "before": now - BROWSER_LIFE, "most": BROWSERS_MAX},
    )
    return token


def forget_browsers(conn: Connection[Any], user_id: UUID) -> None:
    """The user is known in no browser any more."""
    conn.execute("delete from known_browser where user_id = %s", [user_id])
