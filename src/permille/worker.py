"""`permille work`: the roll-up, what is due in live organizations, and webhooks, each in a loop of its own."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille import logs
from permille.api.webhooks import RENDERERS
from permille.clock import system_now
from permille.config import Config
from permille.database.connections import Limits, open_pool
from permille.events.engine import upkeep
from permille.memory import calm_collector
from permille.out import jobs
from permille.out.kind import Context
from permille.store import unpriced as unpriced_store, webhooks
from permille.usecases import fences, unpriced
from permille.usecases.due import due
from permille.usecases.invoices import advance, late_usage

log = logging.getLogger(__name__)

Pool = ConnectionPool[Connection[Any]]
PAUSE_AFTER_ERROR_SECONDS = 2.0
WEBHOOKS_KEPT = timedelta(days=90)
CONNECTIONS_FOR_JOBS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A step, repeated: at once while it says that more is waiting, else after a pause."""

    name: str
    step: Callable[[Pool], bool]
    pause_seconds: float


def roll_up(pool: Pool) -> bool:
    with pool.connection() as conn:
        return upkeep.roll_up(conn)


def rebuild(pool: Pool) -> bool:
    """A chunk for each organization with a history that is to be moved."""
    with pool.connection() as conn:
        waiting = upkeep.organizations_to_rebuild(conn)

    def move(organization_id: UUID) -> int:
        with pool.connection() as conn:
            if upkeep.rebuild(conn, organization_id):
                unpriced_store.recheck(conn, [organization_id])
            return 1

    return fences.for_each(pool, "Moving a history", waiting, move, now=system_now()) > 0


def queue_webhooks(pool: Pool) -> bool:
    """Queue a job for each endpoint where an attempt is due again, or whose job was lost with its worker."""
    with pool.connection() as conn:
        webhooks.defer_due(conn, now=system_now())
    return False


def forget_webhooks(pool: Pool) -> bool:
    with pool.connection() as conn:
        return webhooks.delete_older(conn, before=system_now() - WEBHOOKS_KEPT) > 0


def loops(config: Config, stopping: threading.Event) -> tuple[Loop, ...]:
    """All that `permille work` does; any number of processes may do it at once."""

    def run_due(pool: Pool) -> bool:
        return due.run_live(pool, system_now(), stopping.is_set) > 0

    def move_clocks(pool: Pool) -> bool:
        return due.move_clocks(pool, system_now(), stopping.is_set) > 0

    def review_late_usage(pool: Pool) -> bool:
        return late_usage.review_live(pool, system_now()) > 0

    def bill_advance(pool: Pool) -> bool:
        return advance.bill_live(pool, system_now()) > 0

    def look_for_unpriced(pool: Pool) -> bool:
        return unpriced.look_live(pool, system_now()) > 0

    def run_jobs(pool: Pool) -> bool:
        assert config.database_url is not None
        context = Context(pool=pool, config=config, renderers=RENDERERS, is_stopping=stopping.is_set)
        jobs.work(config.database_url, context, stopping)
        return False

    return (
        Loop(name="roll-up", step=roll_up, pause_seconds=0.5),
        Loop(name="rebuilding", step=rebuild, pause_seconds=1.0),
        Loop(name="due", step=run_due, pause_seconds=2.0),
        Loop(name="test clocks", step=move_clocks, pause_seconds=1.0),
        Loop(name="late usage", step=review_late_usage, pause_seconds=1.0),
        Loop(name="in advance", step=bill_advance, pause_seconds=0.5),
        Loop(name="unpriced usage", step=look_for_unpriced, pause_seconds=2.0),
        Loop(name="jobs", step=run_jobs, pause_seconds=1.0),
        Loop(name="webhooks", step=queue_webhooks, pause_seconds=1.0),
        Loop(name="old webhooks", step=forget_webhooks, pause_seconds=86_400.0),
    )


def run(config: Config) -> None:
    """Work until SIGTERM or SIGINT; what a loop is at is finished first."""
    if config.database_url is None:
        raise ValueError("No database: set PERMILLE_DATABASE_URL, or run `permille up`.")
    logs.configure(config.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    found = loops(config, stopping)
    limits = Limits(statement=config.worker_statement_timeout_seconds, idle=config.idle_timeout_seconds)
    pool = open_pool(
        config.database_url,
        size=len(found) + CONNECTIONS_FOR_JOBS,
        name="permille-work",
        limits=limits,
    )
    threads = [threading.Thread(target=_repeat, args=(loop, pool, stopping)) for loop in found]
    calm_collector()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()


def _repeat(loop: Loop, pool: Pool, stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            if loop.step(pool):
                continue
            stopping.wait(loop.pause_seconds)
        except Exception:
            log.exception("The %s loop failed; it goes on", loop.name)
            stopping.wait(PAUSE_AFTER_ERROR_SECONDS)
