"""Background tasks, organization by organization: one that fails is fenced off for a while, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.database.connections import is_passing, is_unavailable
from permille.store import fences
from permille.store.fences import Free

log = logging.getLogger(__name__)


def for_each(
    pool: ConnectionPool[Connection[Any]],
    task: str,
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
        free = fences.free(conn, task, organization_ids, now=now)
    done = 0
    for organization in free:
        try:
            done += do(organization.id)
            if organization.has_failed:
                with pool.connection() as conn:
                    fences.lift(conn, organization.id, task)
        except Exception as error:
            if is_unavailable(error):
                raise
            _failed(pool, task, organization, error, now=now)
    return done


def _failed(
    pool: ConnectionPool[Connection[Any]], task: str, organization: Free, error: Exception, *, now: datetime
) -> None:
    name = f"{organization.name!r} ({organization.id})"
    if is_passing(error):
        log.warning("%s of organization %s is tried again at the next turn: %s", task, name, error)
        return
    with pool.connection() as conn:
        failures, retry_at = fences.put(
            conn, organization.id, task, reason=f"{type(error).__name__}: {error}", now=now
        )
    log.error(
        "%s of organization %s failed, %d times in a row. The others go on; it is tried again at %s.",
        task,
        name,
        failures,
        retry_at.isoformat(),
        exc_info=error,
    )
