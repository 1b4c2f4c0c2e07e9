"""The due-work engine: whatever is due up to an instant is done, in the order in which it became due.

At one instant the kinds of work are done in the order of KINDS. The worker's loop and the test clock are the same engine; only who says what
time it is differs.
Source: semantics-billing.md sections 3.2, 3.4, 3.10; docs/decisions/007.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.core.errors import Invalid
from permille.core.organization import Organization
from permille.store import advance_queue, billing_holds, invoices, organizations
from permille.store.organizations import TestClock
from permille.usecases import alerts, fences, ongoing_balances
from permille.usecases.arrivals import Look
from permille.usecases.due.activations import ACTIVATIONS
from permille.usecases.due.bills import BILLS
from permille.usecases.due.drafts import DRAFTS
from permille.usecases.due.dunning import DUNNING
from permille.usecases.due.end_alerts import END_ALERTS
from permille.usecases.due.ends import ENDS
from permille.usecases.due.event_errors import EVENT_ERRORS
from permille.usecases.due.overdue import OVERDUE
from permille.usecases.due.starts import STARTS
from permille.usecases.due.wallets import EXPIRY, TOP_UPS
from permille.usecases.fences import Task
from permille.usecases.invoices import advance, progressive

BATCH = 2_000


def _refresh(conn: Connection[Any], organization_id: UUID, *, now: datetime, system_now: datetime) -> int:
    del system_now
    return ongoing_balances.refresh_marked(conn, organization_id, now=now)


KINDS = (
    EVENT_ERRORS,
    EXPIRY,
    ACTIVATIONS,
    STARTS,
    ENDS,
    END_ALERTS,
    BILLS,
    DRAFTS,
    OVERDUE,
    DUNNING,
    TOP_UPS,
)
"""In the order in which they are done at one instant."""
LOOKS = (alerts.look_now, progressive.look_now, ongoing_balances.refresh_now)
"""What follows usage: before a clock moves on, and where it arrives."""
MARKED: tuple[Look, ...] = (alerts.look, progressive.look, _refresh)
"""What is done of them before a clock goes on to a later instant: whatever was marked."""
STEP_SECONDS = 0.1
"""How long a transaction moves a test clock, about."""

TURN_SECONDS = 0.5
"""How long a live organization's turn takes, about."""
RUN_SECONDS = 20.0
"""After so long those are looked for of which something has become due meanwhile."""


def _never() -> bool:
    return False


def move_clock(
    conn: Connection[Any],
    *,
    organization: Organization,
    until: datetime,
    pause: Callable[[], bool] = _never,
) -> bool:
    """Move a test clock and do all that becomes due on the way; whether it has arrived.

    It goes in steps. `pause` is called between them and may commit; once it says so, the rest is left to the worker.
    The same instant again does what is due, or goes on. Raises Invalid when the clock would go back, or is on its way
    to another instant.
    """
    _set_off(conn, organization.id, until)
    while not pause():
        if move_on(conn, organization.id):
            return True
    return False


def _set_off(conn: Connection[Any], organization_id: UUID, until: datetime) -> None:
    """Say where the clock goes, once what follows usage has been looked at as of now. What was held is tried again, once."""
    if _is_set_off(organizations.clock(conn, organization_id), until):
        return  # without a wait for the one that moves it
    clock = organizations.lock_clock(conn, organization_id)
    if clock is None or _is_set_off(clock, until):
        return
    billing_holds.release(conn, organization_id, until=None)
    invoices.release_waiting(conn, organization_id, until=None)
    advance_queue.release_unpriced(conn, organization_id, until=None)
    organizations.set_target(conn, organization_id=organization_id, target=until)
    _look(conn, organization_id, clock.now)


def _is_set_off(clock: TestClock | None, until: datetime) -> bool:
    """Whether the clock is on its way to that instant. Raises Invalid where it can't go there."""
    if clock is None or until < clock.now:
        raise Invalid({"now": ["cannot_go_back"]})
    if clock.target not in (None, until):
        raise Invalid({"now": ["clock_is_moving"]})
    return clock.target is not None


def move_on(conn: Connection[Any], organization_id: UUID, *, wait: bool = True) -> bool:
    """Move a clock for about STEP_SECONDS towards where it is on its way to; whether it has arrived.

    The clock shows the instant of what is being done. Events that wait for their fee come first, as of before. Where a step ends
    changes nothing. Unless `wait` is set, a clock that is being moved at the moment is left alone.
    """
    clock = organizations.lock_clock(conn, organization_id, wait=wait)
    if clock is None or clock.target is None:
        return True
    now, ends = clock.now, time.monotonic() + STEP_SECONDS
    while time.monotonic() < ends:
        if advance.bill_events(conn, organization_id, now=now, wait=True):
            continue
        at = _first(conn, organization_id, clock.target)
        if (at is None or at > now) and _look_at_marked(conn, organization_id, now):
            continue
        if at is None:
            organizations.set_clock(conn, organization_id=organization_id, now=clock.target)
            organizations.set_target(conn, organization_id=organization_id, target=None)
            _look(conn, organization_id, clock.target)
            return True
        if at > now:
            now = at
            organizations.set_clock(conn, organization_id=organization_id, now=now)
        _step(conn, organization_id, at, wait=True, now=now)
    return False


def _look(conn: Connection[Any], organization_id: UUID, now: datetime) -> None:
    for look in LOOKS:
        look(conn, organization_id, now=now)


def _look_at_marked(conn: Connection[Any], organization_id: UUID, now: datetime) -> bool:
    """Whether anything was marked: however fast a clock goes, what is done at an instant is looked at as of then."""
    return any(look(conn, organization_id, now=now, system_now=system_now()) for look in MARKED)


def move_clocks(
    pool: ConnectionPool[Connection[Any]], now: datetime, stopping: Callable[[], bool] = _never
) -> int:
    """Move each test clock that is on its way a step, in a transaction of its own; how many are not there yet."""
    with pool.connection() as conn:
        waiting = organizations.on_their_way(conn)

    def move(organization_id: UUID) -> int:
        if stopping():
            return 0
        with pool.connection() as conn:
            return 0 if move_on(conn, organization_id, wait=False) else 1

    return fences.for_each(pool, Task.CLOCKS, waiting, move, now=now)


def run_live(
    pool: ConnectionPool[Connection[Any]], now: datetime, stopping: Callable[[], bool] = _never
) -> int:
    """Do what is due of the live organizations, a transaction a batch, for about RUN_SECONDS; how many things that was.

    Each has a turn after the other, until nothing is left: none waits for all that another one has to do. Once `stopping`
    says so, no further batch is begun.

    Several processes may run at once: each leaves alone what another is at. What fails in one organization holds up
    no other, and a customer that cannot be billed none but itself.
    """
    with pool.connection() as conn:
        waiting = list(dict.fromkeys(each for kind in KINDS for each in kind.live(conn, now)))

    done, ends = 0, time.monotonic() + RUN_SECONDS
    while waiting and time.monotonic() < ends:
        left: list[UUID] = []
        turn = partial(_run_turn, pool, now=now, stopping=stopping, left=left)
        found = fences.for_each(pool, Task.DUE, waiting, turn, now=now)
        if not found:
            break  # those that are left rest
        done += found
        waiting = left
    return done


def _run_turn(
    pool: ConnectionPool[Connection[Any]],
    organization_id: UUID,
    *,
    now: datetime,
    stopping: Callable[[], bool],
    left: list[UUID],
) -> int:
    """Batch after batch for about TURN_SECONDS; how many things that was. It is one of those that are `left` if there may be more."""
    done, ends = 0, time.monotonic() + TURN_SECONDS
    with pool.connection() as conn:
        billing_holds.release(conn, organization_id, until=now)
        invoices.release_waiting(conn, organization_id, until=now)
    while not stopping() and (step := _live_step(pool, organization_id, now)):
        done += step
        if time.monotonic() >= ends:
            left.append(organization_id)
            break
    return done


def _live_step(pool: ConnectionPool[Connection[Any]], organization_id: UUID, now: datetime) -> int:
    """One batch; 0 when nothing is left, or others are at it: what is due later must wait for them."""
    with pool.connection() as conn:
        at = _first(conn, organization_id, now)
        return 0 if at is None else _step(conn, organization_id, at, wait=False, now=now)


def _first(conn: Connection[Any], organization_id: UUID, until: datetime) -> datetime | None:
    """The first instant up to `until` at which anything of an organization is due, of customers that are not held."""
    found = (kind.first(conn, organization_id, until) for kind in KINDS)
    return min((at for at in found if at is not None), default=None)


def _step(conn: Connection[Any], organization_id: UUID, at: datetime, *, wait: bool, now: datetime) -> int:
    """A batch of what is due at the instant: of the first kind that has anything to do."""
    for kind in KINDS:
        if done := kind.do(conn, organization_id, at=at, limit=BATCH, wait=wait, now=now):
            return done
    return 0
