"""The fence around each organization, and within it each customer, that background tasks go through.

What fails with anything but a lost connection or a transaction in the way is named in the log, left alone for a while,
longer each time, and tried again; all others are done. `Task` lists all tasks that do so, by what they are shown as.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.database.connections import is_passing, is_unavailable
from permille.store import company, customers, fences
from permille.store.fences import Free
from permille.usecases import holds

log = logging.getLogger(__name__)

Item = TypeVar("Item")
TURN_SECONDS = 0.02
"""After a shorter turn nobody rests."""
REST_TIMES, REST_SECONDS_MAX = 4.0, 2.0


class Task(StrEnum):
    """What goes through the organizations one by one; a new loop over organizations is one more of these."""

    ADVANCE = "Billing in advance"
    ALERTS = "Looking at alerts"
    CLOCKS = "Moving a test clock"
    DUE = "Due work"
    LATE_USAGE = "Late usage"
    REBUILDING = "Moving a history"
    THRESHOLDS = "Looking at usage thresholds"
    WALLETS = "Reckoning ongoing balances"
    UNPRICED = "Looking for usage without a price"
    VAT_NUMBERS = "Looking up VAT numbers"


def for_each(
    pool: ConnectionPool[Connection[Any]],
    task: Task,
    organization_ids: Sequence[UUID],
    do: Callable[[UUID], int],
    *,
    now: datetime,
) -> int:
    """Do a task for each organization; the sum of what that returns. `now` is the system's clock.

    One that fails is logged by name and left alone for a while, longer each time, by all workers. Raises what it
    raised only when the database is not to be had: then it is nobody's fault.
    """
    if not organization_ids:
        return 0
    with pool.connection() as conn:
        free = fences.free(conn, task, organization_ids, now=now, at=system_now())
    done = 0
    for organization in free:
        began = time.monotonic()
        try:
            done += do(organization.id)
            _rest(pool, organization.id, time.monotonic() - began)
            if organization.has_failed:
                with pool.connection() as conn:
                    fences.lift(conn, organization.id, task)
        except Exception as error:
            if is_unavailable(error):
                raise
            _failed(pool, task, organization, error, now=now)
    return done


def _rest(pool: ConnectionPool[Connection[Any]], organization_id: UUID, took: float) -> None:
    """While others feel it, an organization is left alone REST_TIMES as long as a turn of it took."""
    if took > TURN_SECONDS:
        with pool.connection() as conn:
            seconds = min(REST_TIMES * took, REST_SECONDS_MAX)
            company.rest(conn, organization_id, seconds=seconds, now=system_now())


def _failed(
    pool: ConnectionPool[Connection[Any]], task: Task, organization: Free, error: Exception, *, now: datetime
) -> None:
    name = f"{organization.name!r} ({organization.id})"
    if is_passing(error):
        log.warning("%s of organization %s is tried again at the next turn: %s", task, name, error)
        return
    with pool.connection() as conn:
        failures, retry_at = fences.put(conn, organization.id, task, reason=holds.reason_of(error), now=now)
    log.error(
        "%s of organization %s failed, %d times in a row. The others go on; it is tried again at %s.",
        task,
        name,
        failures,
        retry_at.isoformat(),
        exc_info=error,
    )


def for_each_customer(
    conn: Connection[Any],
    task: Task,
    organization_id: UUID,
    items: Sequence[Item],
    do: Callable[[Sequence[Item]], None],
    *,
    customer_of: Callable[[Item], UUID],
    now: datetime,
) -> set[UUID]:
    """Do a task for items of customers, all at once; the customers for whom it fails, of whom nothing is done.

    Those are logged by name and left alone for a while, longer each time. `now` is the system's clock.
    """
    failures = {
        failure.customer_id: failure.error
        for failure in holds.do_apart(conn, items, do, customer_of=customer_of)
    }
    fences.lift_customers(
        conn, organization_id, task, {customer_of(item) for item in items} - failures.keys()
    )
    known = customers.by_ids(conn, failures.keys())
    for customer_id, error in sorted(failures.items(), key=lambda each: each[0]):
        count, retry_at = fences.put(
            conn, organization_id, task, customer_id=customer_id, reason=holds.reason_of(error), now=now
        )
        log.error(
            "%s of customer %s (%s) of organization %s failed, %d times in a row. The others go on; it is tried again at %s.",
            task,
            known[customer_id].external_id,
            customer_id,
            organization_id,
            count,
            retry_at.isoformat(),
            exc_info=error,
        )
    return failures.keys() | set()
