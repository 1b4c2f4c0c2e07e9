"""What follows usage looks through the events that have been counted: for alerts, for usage thresholds, for wallets.

Each follower keeps its own place in the order of arrival, marks what the events are of, and looks at what is marked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.core.metering.event import Arrived
from permille.core.record import Record
from permille.database.connections import is_passing
from permille.events.engine import event_log
from permille.store import arrivals as store, organizations
from permille.store.arrivals import Follows
from permille.usecases import fences
from permille.usecases.fences import Task

AT_ONCE = 200_000

log = logging.getLogger(__name__)

Subscriptions = Collection[tuple[UUID, str]]
"""Organizations and external ids."""


class Look(Protocol):
    """Look at a batch of what is marked, as of the organization's clock `now`; how many marks that was."""

    def __call__(
        self, conn: Connection[Any], organization_id: UUID, *, now: datetime, system_now: datetime
    ) -> int: ...


class Follower(Record, kw_only=True):
    """Who looks at subscriptions once their events are counted."""

    task: Task
    who: Follows
    is_any: Callable[[Connection[Any]], bool]
    """Whether events matter to it at all."""
    is_any_of: Callable[[Connection[Any], UUID], bool]
    """Whether it has anything to look at in an organization."""
    mark: Callable[[Connection[Any], Subscriptions], None]
    waiting: Callable[[Connection[Any]], list[UUID]]
    """The organizations in which something is marked."""


def look_live(pool: ConnectionPool[Connection[Any]], follower: Follower, look: Look, now: datetime) -> int:
    """Look at what events came in for, in any organization; how many marks that was. `now` is the system's clock."""
    return follow(
        pool, follower.task, lambda conn: detect(conn, follower), waiting=follower.waiting, look=look, now=now
    )


def follow(
    pool: ConnectionPool[Connection[Any]],
    task: Task,
    look_through: Callable[[Connection[Any]], bool],
    *,
    waiting: Callable[[Connection[Any]], list[UUID]],
    look: Look,
    now: datetime,
) -> int:
    """Look through what came in, then at what waits in each organization; how many looks found something.

    `now` is the system's clock. A test clock waits for what is looked at as of what it shows, and what waits while it is moved
    is looked at by its mover.
    """
    more = _detected(pool, look_through, of=task)
    with pool.connection() as conn:
        organization_ids = waiting(conn)

    def look_one(organization_id: UUID) -> int:
        with pool.connection() as conn:
            shown = organizations.hold_clock(conn, organization_id, system_now=now)
            return look(conn, organization_id, now=shown, system_now=now) if shown else 0

    return fences.for_each(pool, task, organization_ids, look_one, now=now) + int(more)


def _detected(
    pool: ConnectionPool[Connection[Any]], look_through: Callable[[Connection[Any]], bool], *, of: Task
) -> bool:
    """Whether there is more to look through. What was found before is looked at also where that fails."""
    try:
        with pool.connection() as conn:
            return look_through(conn)
    except Exception as error:
        if is_passing(error):
            raise
        log.exception("Events could not be looked through for %s; what was found before is looked at", of)
        return False


def detect(conn: Connection[Any], follower: Follower) -> bool:
    """Mark the subscriptions with events that are counted by now; whether there is more to look through."""
    piece = counted_after(conn, follower.who, is_any=follower.is_any)
    if piece is None:
        return False
    follower.mark(conn, piece.subscriptions)
    store.set_seen(conn, follower.who, piece.until)
    return piece.is_more


class Piece(Record, kw_only=True):
    """The subscriptions that events came in for, up to a place in the order of arrival."""

    subscriptions: Subscriptions
    until: int
    is_more: bool
    """Whether more events are counted already."""


def counted_after(
    conn: Connection[Any], who: Follows, *, is_any: Callable[[Connection[Any]], bool]
) -> Piece | None:
    """What was counted since somebody looked, at most AT_ONCE events; all of it, unread, where nobody wants any.

    None where nothing is new, or another worker is at it.
    """
    after = store.claim(conn, who)
    if after is None:
        return None
    counted_to = event_log.arrival(conn).counted_to
    if counted_to <= after:
        return None
    if not is_any(conn):
        return Piece(subscriptions=(), until=counted_to, is_more=False)
    until = min(counted_to, after + AT_ONCE)
    arrived = event_log.arrived(conn, after=after, until=until)
    return Piece(subscriptions=_of(arrived), until=until, is_more=until < counted_to)


def look_now(
    conn: Connection[Any], follower: Follower, look: Look, organization_id: UUID, *, now: datetime
) -> None:
    """Look at all that may have changed in an organization, counted or not: before its clock moves on."""
    if not follower.is_any_of(conn, organization_id):
        return
    arrived = event_log.arrived(conn, after=store.seen_to(conn, follower.who), until=event_log.settled(conn))
    follower.mark(conn, _of(each for each in arrived if each.organization_id == organization_id))
    while look(conn, organization_id, now=now, system_now=system_now()):
        pass


def _of(arrived: Iterable[Arrived]) -> Subscriptions:
    return {(each.organization_id, each.external_subscription_id) for each in arrived}
