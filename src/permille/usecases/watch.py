"""What a process looks at before it works, and while it does: whether its schema and its clock are right.

A wrong clock bills the future, and nothing takes that back. So a process that sees one stops, and says what to do
(docs/clock.md).
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection

from permille.clock import system_now
from permille.core.record import Record
from permille.database.migrate import check_not_newer
from permille.embedded.running import UnusableError
from permille.store import clock_seen
from permille.store.clock_seen import Sight

SKEW_MAX = timedelta(minutes=1)
"""How far a clock may be from the database's, behind the last instant seen, and from what has passed of it."""
UNSEEN_MAX = timedelta(days=1)
"""After a longer time without a worker, a clock that is ahead is as likely as an outage."""
SEEN_EVERY = timedelta(seconds=5)
CONFIRM = "If this clock is right, say so: permille clock confirm."


class MustStopError(UnusableError):
    """The process must not go on; the message says what is wrong, and what to do."""


class _Looked(Record):
    """A look at the database, between two looks at the clock."""

    before: datetime
    sight: Sight
    after: datetime

    @property
    def skew(self) -> timedelta:
        """How far this machine's clock is from the database's at least, however long the answer took."""
        return max(self.before - self.sight.database_now, self.sight.database_now - self.after, timedelta(0))


def _look(conn: Connection[Any]) -> _Looked:
    before = system_now()
    sight = clock_seen.sight(conn)
    return _Looked(before, sight, system_now())


def check(conn: Connection[Any]) -> datetime:
    """The instant, by a clock that agrees with the database's. Raises MustStopError, and UnableToMigrateError."""
    return _checked(_look(conn)).after


def _checked(looked: _Looked) -> _Looked:
    check_not_newer(looked.sight.schema_version)
    if looked.skew > SKEW_MAX:
        raise MustStopError(
            f"This machine's clock shows {_shown(looked.after)}, the database's {_shown(looked.sight.database_now)}. "
            "Correct the one that is wrong (NTP), then start this again."
        )
    return looked


def trouble(conn: Connection[Any], now: datetime) -> str | None:
    """Why no worker may go on from what was last seen to `now`; None when it may."""
    return _trouble(conn, clock_seen.sight(conn), now)


def _trouble(conn: Connection[Any], sight: Sight, now: datetime) -> str | None:
    if sight.seen_at is None:
        return None
    if now < sight.seen_at - SKEW_MAX:
        return (
            f"The clock shows {_shown(now)}, and a worker has seen {_shown(sight.seen_at)}: it is behind, or it was "
            f"ahead then and may have billed too early. {CONFIRM}"
        )
    if now <= sight.seen_at + UNSEEN_MAX:
        return None
    if sight.doubted:
        return (
            f"The clock was set from {_shown(sight.seen_at)} to {_shown(now)} while a worker ran. "
            f"Nothing is billed until somebody has looked at it. {CONFIRM}"
        )
    owed = clock_seen.owed_several_periods(conn, now=now)
    if not owed:
        return None
    return (
        f"The last worker has seen {_shown(sight.seen_at)}, and the clock shows {_shown(now)}. By that, {owed} "
        f"subscriptions of live organizations are to be billed for several periods at once. {CONFIRM}"
    )


def confirm(conn: Connection[Any]) -> datetime:
    """Take this machine's clock as right, whatever was seen before; the instant. Raises MustStopError."""
    now = check(conn)
    clock_seen.confirm(conn, now)
    return now


class Watch:
    """A worker's look at each turn. It also compares the clock with how much time has really passed in this process."""

    def __init__(self) -> None:
        self._began: tuple[datetime, float] | None = None

    def now(self, conn: Connection[Any]) -> datetime:
        """The instant, by a clock that may be worked by. Raises MustStopError, and UnableToMigrateError."""
        self._check_steps(conn, system_now())
        looked = _checked(_look(conn))
        now, sight = looked.after, looked.sight
        problem = _trouble(conn, sight, now)
        if problem is not None:
            raise MustStopError(problem)
        if sight.seen_at is None or sight.doubted or now > sight.seen_at + SEEN_EVERY:
            clock_seen.see(conn, now)
        return now

    def _check_steps(self, conn: Connection[Any], now: datetime) -> None:
        passed = time.clock_gettime(time.CLOCK_BOOTTIME)
        if self._began is None:
            self._began = now, passed
        began, then = self._began
        step = (now - began) - timedelta(seconds=passed - then)
        if abs(step) > SKEW_MAX:
            clock_seen.doubt(conn)
            conn.commit()
            raise MustStopError(
                f"The clock was set by {timedelta(seconds=round(step.total_seconds()))} while this ran. It is looked at again at the next start."
            )


def _shown(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="seconds")
