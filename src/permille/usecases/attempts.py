"""How often somebody may guess: an attempt counts before it is tried, so that many at once are not more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Refusal
from permille.core.record import Record
from permille.store import attempts
from permille.store.users import User, digest_of

PER_EMAIL = 10
PER_ADDRESS = 50
PER_BROWSER = 10
"""Failures in 15 minutes: for one email, from one address, and of one browser in which the user has signed in before."""


class Attempt(Record, kw_only=True):
    """An attempt that counts until it is taken back."""

    rows: Sequence[UUID]
    forgiven: Sequence[str]
    """What is forgotten when it succeeds; of an address only the attempt itself, since others may share it."""


def begin(
    conn: Connection[Any],
    *,
    what: str,
    user: User | None,
    email: str,
    household: str,
    token: str,
    now: datetime,
) -> Attempt:
    """Count an attempt at `what` (a password, a code). Raises Refusal with 429 when there were too many.

    A browser that is known has a limit of its own, so that no stranger locks the user out; all others share those of
    the email and of the household they come from.
    """
    if user is not None and token and attempts.is_known(conn, token=token, user_id=user.id, now=now):
        own = f"browser:{what}:{user.id}:{digest_of(token).hex()}"
        return _counted(conn, {own: PER_BROWSER}, forgiven=[own], now=now)
    of_email = f"email:{what}:{email.lower()}"
    limits = {of_email: PER_EMAIL, f"address:{household}": PER_ADDRESS}
    return _counted(conn, limits, forgiven=[of_email], now=now)


def _counted(
    conn: Connection[Any], limits: Mapping[str, int], *, forgiven: Sequence[str], now: datetime
) -> Attempt:
    counts = attempts.count(conn, list(limits), now=now)
    if any(counts.get(subject, 0) >= most for subject, most in limits.items()):
        raise Refusal(status=429, code="too_many_failures")
    return Attempt(rows=attempts.add(conn, list(limits), now=now), forgiven=forgiven)


def succeed(conn: Connection[Any], attempt: Attempt) -> None:
    """The guess was right: it and the failures before it count no more."""
    attempts.take_back(conn, attempt.rows)
    attempts.forget(conn, attempt.forgiven)
