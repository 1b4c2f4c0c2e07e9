"""Signed-in browsers: sessions begin and end, and a browser stays known for the next time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.errors import NotFound
from permille.core.record import Record
from permille.store import attempts, sessions, users
from permille.store.sessions import Origin, Session
from permille.store.users import User
from permille.usecases import second_factors


class Secrets(Record, kw_only=True):
    """What the cookies of a browser hold once somebody has signed in.

    There is none for the browser while a code of the second factor is awaited, which `session` is for then.
    """

    session: str
    browser: str | None


def begin(conn: Connection[Any], user: User, *, origin: Origin, browser: str, now: datetime) -> Secrets:
    """Sign the user in, or ask for a code first; `browser` is the secret by which the browser may be known."""
    if not second_factors.is_on(conn, user):
        return _open(conn, user, origin=origin, browser=browser, now=now)
    secret = sessions.open_session(conn, user_id=user.id, origin=origin, awaits_code=True, now=now)
    return Secrets(session=secret, browser=None)


def finish(
    conn: Connection[Any], secret: str, code: str, *, origin: Origin, browser: str, now: datetime
) -> Secrets | None:
    """Sign the user in who has begun to, by a code; None when it is wrong. The secret is another one from then on."""
    user = sessions.awaiting_code(conn, secret=secret, now=now)
    if user is None or not second_factors.is_right(conn, user, code, now=now):
        return None
    close_session(conn, secret)
    return _open(conn, user, origin=origin, browser=browser, now=now)


def _open(conn: Connection[Any], user: User, *, origin: Origin, browser: str, now: datetime) -> Secrets:
    return Secrets(
        session=sessions.open_session(conn, user_id=user.id, origin=origin, now=now),
        browser=attempts.remember_browser(conn, token=browser, user_id=user.id, now=now),
    )


def session(conn: Connection[Any], *, secret: str, now: datetime) -> Session | None:
    """The session of a cookie, which was seen now; None when it is over."""
    return sessions.session(conn, secret=secret, now=now)


def awaiting_code(conn: Connection[Any], *, secret: str, now: datetime) -> User | None:
    """Who has begun to sign in with the cookie's secret, and is to give a code."""
    return sessions.awaiting_code(conn, secret=secret, now=now)


def close_session(conn: Connection[Any], secret: str) -> None:
    """Sign out."""
    sessions.close(conn, users.digest_of(secret))


def end(conn: Connection[Any], user: User, digest: bytes | None) -> None:
    """Sign the user out in one browser. Raises NotFound."""
    if digest is None or not sessions.close_of(conn, user.id, digest):
        raise NotFound("session")


def end_others(conn: Connection[Any], kept: Session) -> None:
    """Sign the user out in all browsers but one."""
    sessions.close_others(conn, kept.user.id, kept.digest)


def change_password(conn: Connection[Any], kept: Session, *, password_hash: str) -> None:
    """Change the user's password, which signs it out in all other browsers; no browser is known any more."""
    users.set_password(conn, user_id=kept.user.id, password_hash=password_hash)
    end_others(conn, kept)
    attempts.forget_browsers(conn, kept.user.id)
