"""`permille work`: the roll-up, what is due in live organizations, and webhooks, each in a loop of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolClosed

from permille import logs
from permille.api.webhooks import RENDERERS
from permille.busy import Busy, Patience
from permille.config import Config
from permille.core.record import Record
from permille.database.connections import Limits, open_pool
from permille.database.migrate import UnableToMigrateError, pending
from permille.embedded.calls import WORKING, ask_for
from permille.embedded.running import UnusableError
from permille.embedded.unprivileged import leave_root
from permille.events.engine import upkeep
from permille.memory import calm_collector
from permille.out import jobs
from permille.out.kind import Context
from permille.signals import Signals
from permille.store import activity, api_logs, mails, unpriced as unpriced_store, webhooks
from permille.usecases import alerts, fences, ongoing_balances, unpriced, vat_checks
from permille.usecases.due import due
from permille.usecases.fences import Task
from permille.usecases.invoices import advance, late_usage, progressive
from permille.usecases.watch import MustStopError, Watch

log = logging.getLogger(__name__)

Pool = ConnectionPool[Connection[Any]]
PAUSE_AFTER_ERROR_SECONDS = 2.0
PATIENCE_AT_END_SECONDS = 3.0
WEBHOOKS_KEPT = timedelta(days=90)
CONNECTIONS_FOR_JOBS = 6
APART_SECONDS = 0.03
"""Between the starts of loops, so that their turns come one after the other and share a few connections."""
LOOK_SECONDS = 0.5
"""How soon the process ends once a loop has found that it must."""
BUSY_SECONDS = 1.0
"""A worker that has had something to do for so long asks for another one."""
JOBS_FOR_TWO = 2
"""So many jobs at once can be shared out."""
IDLE_SECONDS = 60.0
"""A worker that works until it is idle ends after so long with nothing to do."""
TURN_WAITS_SECONDS = 0.1
"""How long a turn waits for the one before it, which usually has nothing to do."""


class Loop(Record, kw_only=True):
    """A step, repeated: at once while it says that more is waiting, else after a pause.

    It takes the instant by a clock that was looked at for this very turn.
    """

    name: str
    step: Callable[[Pool, datetime], bool]
    pause_seconds: float
    counts: bool = True
    """Whether its turns come one after the other with those of other loops, and are work when they go on."""


def roll_up(pool: Pool, _now: datetime) -> bool:
    with pool.connection() as conn:
        return upkeep.roll_up(conn)


def rebuild(pool: Pool, now: datetime) -> bool:
    """A chunk for each organization with a history that is to be moved."""
    with pool.connection() as conn:
        waiting = upkeep.organizations_to_rebuild(conn)

    def move(organization_id: UUID) -> int:
        with pool.connection() as conn:
            if upkeep.rebuild(conn, organization_id):
                unpriced_store.recheck(conn, [organization_id])
            return 1

    return fences.for_each(pool, Task.REBUILDING, waiting, move, now=now) > 0


def queue_webhooks(pool: Pool, now: datetime) -> bool:
    """Queue a job for each endpoint where an attempt is due again, or whose job was lost with its worker."""
    with pool.connection() as conn:
        webhooks.defer_due(conn, now=now)
    return False


def queue_mails(pool: Pool, now: datetime) -> bool:
    """Queue a job for each organization with a mail that is due again, or whose job was lost with its worker."""
    with pool.connection() as conn:
        mails.defer_due(conn, now=now)
    return False


def forget_webhooks(pool: Pool, now: datetime) -> bool:
    with pool.connection() as conn:
        return webhooks.delete_older(conn, before=now - WEBHOOKS_KEPT) > 0


def _goes_on(work: Callable[[Pool, datetime], int]) -> Callable[[Pool, datetime], bool]:
    """A step of work that says how much it did: there may be more as long as it did something."""
    return lambda pool, now: work(pool, now) > 0


def _forget(pool: Pool, delete_older: Callable[..., int], now: datetime, days: int) -> bool:
    """Delete some of what is older than so many days, and say whether there was any; 0 days are for ever."""
    if not days:
        return False
    with pool.connection() as conn:
        return delete_older(conn, before=now - timedelta(days=days)) > 0


def loops(config: Config, stopping: threading.Event, at_jobs: Busy | None = None) -> tuple[Loop, ...]:
    """All that `permille work` does; any number of processes may do it at once. Its jobs count for `at_jobs`."""

    def run_due(pool: Pool, now: datetime) -> bool:
        return due.run_live(pool, now, stopping.is_set) > 0

    def move_clocks(pool: Pool, now: datetime) -> bool:
        return due.move_clocks(pool, now, stopping.is_set) > 0

    def forget_audit(pool: Pool, now: datetime) -> bool:
        return _forget(pool, activity.delete_older, now, config.audit_days)

    def forget_requests(pool: Pool, now: datetime) -> bool:
        return _forget(pool, api_logs.delete_older, now, config.api_log_days)

    def look_up_vat_numbers(pool: Pool, now: datetime) -> bool:
        return vat_checks.look_live(pool, config, now, stopping.is_set) > 0

    def run_jobs(pool: Pool, _now: datetime) -> bool:
        assert config.database_url is not None
        context = Context(pool=pool, config=config, renderers=RENDERERS, is_stopping=stopping.is_set)
        jobs.work(config.database_url, context, stopping, busy=at_jobs)
        return False

    return (
        Loop(name="roll-up", step=roll_up, pause_seconds=0.5),
        Loop(name="rebuilding", step=rebuild, pause_seconds=1.0),
        Loop(name="due", step=run_due, pause_seconds=2.0),
        Loop(name="test clocks", step=move_clocks, pause_seconds=1.0),
        Loop(name="late usage", step=_goes_on(late_usage.review_live), pause_seconds=1.0),
        Loop(name="in advance", step=_goes_on(advance.bill_live), pause_seconds=0.5),
        Loop(name="alerts", step=_goes_on(alerts.look_live), pause_seconds=0.5),
        Loop(name="usage thresholds", step=_goes_on(progressive.look_live), pause_seconds=0.5),
        Loop(name="ongoing balances", step=_goes_on(ongoing_balances.refresh_live), pause_seconds=0.5),
        Loop(name="unpriced usage", step=_goes_on(unpriced.look_live), pause_seconds=2.0),
        Loop(name="VAT numbers", step=look_up_vat_numbers, pause_seconds=5.0),
        Loop(name="jobs", step=run_jobs, pause_seconds=1.0, counts=False),
        Loop(name="webhooks", step=queue_webhooks, pause_seconds=1.0),
        Loop(name="mails", step=queue_mails, pause_seconds=5.0),
        Loop(name="old webhooks", step=forget_webhooks, pause_seconds=86_400.0),
        Loop(name="old audit entries", step=forget_audit, pause_seconds=86_400.0),
        Loop(name="old logged requests", step=forget_requests, pause_seconds=3_600.0),
    )


def run(config: Config, *, until_idle: bool = False) -> None:
    """Work until SIGTERM or SIGINT, or until there is nothing to do; what a loop is at is finished first.

    Raises UnusableError, and UnableToMigrateError, when it must not work or go on: its schema or its clock is wrong.
    """
    if config.database_url is None:
        raise ValueError("No database: set PERMILLE_DATABASE_URL, or run `permille up`.")
    logs.configure(config.log_level, config.log_format)
    leave_root(config)
    if pending(config.database_url):
        raise UnusableError("The database lacks migrations: run `permille db migrate`, then this again.")
    stopping, at_jobs = threading.Event(), Busy(JOBS_FOR_TWO)
    found = loops(config, stopping, at_jobs)
    if until_idle:  # what is done once in a while would be done at each start
        found = tuple(loop for loop in found if loop.pause_seconds <= IDLE_SECONDS)
    limits = Limits(statement=config.worker_statement_timeout_seconds, idle=config.idle_timeout_seconds)
    pool = open_pool(
        config.database_url,
        size=len(found) + CONNECTIONS_FOR_JOBS,
        name="permille-work",
        limits=limits,
    )
    turns = _Turns(pool, stopping)
    threads = [threading.Thread(target=turns.repeat, args=(loop,)) for loop in found]
    calm_collector()
    with Signals() as signals:
        for thread in threads:
            thread.start()
            signals.wait(APART_SECONDS)
        patience = Patience(IDLE_SECONDS)
        while not signals.stopping() and not stopping.is_set() and not (until_idle and patience.is_over()):
            signals.wait(LOOK_SECONDS)
            if max(turns.busy.seconds, at_jobs.seconds) >= BUSY_SECONDS:
                ask_for(WORKING)
                patience.begin_again()
        stopping.set()
        _end(threads, pool)
    if turns.failure is not None:
        raise turns.failure


def _end(threads: Sequence[threading.Thread], pool: Pool) -> None:
    """Wait for the loops to end; after a while one that waits for a connection gets none: the database may be away."""
    patient_until = time.monotonic() + PATIENCE_AT_END_SECONDS
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
            if time.monotonic() > patient_until and pool.get_stats().get("requests_waiting"):
                pool.close()
    pool.close()


class _Turns:
    """The turns of all loops of a process."""

    def __init__(self, pool: Pool, stopping: threading.Event) -> None:
        self._pool, self._stopping, self._watch = pool, stopping, Watch()
        self._door = threading.Lock()
        self.busy = Busy()
        self.failure: Exception | None = None
        """Why none of them may go on."""

    def repeat(self, loop: Loop) -> None:
        while not self._stopping.is_set():
            try:
                if self._first(loop):
                    with self.busy:
                        while not self._stopping.is_set() and self._goes_on(loop):
                            pass
                self._stopping.wait(loop.pause_seconds)
            except (MustStopError, UnableToMigrateError) as error:
                log.critical("Background work stops: %s", error)
                self.failure = error
                self._stopping.set()
            except PoolClosed:
                log.warning("The %s loop ends: the database is not to be had", loop.name)
            except Exception:
                log.exception("The %s loop failed; it goes on", loop.name)
                self._stopping.wait(PAUSE_AFTER_ERROR_SECONDS)

    def _first(self, loop: Loop) -> bool:
        """A turn after a pause. Most have nothing to do: one after the other, they share a connection."""
        is_next = loop.counts and self._door.acquire(timeout=TURN_WAITS_SECONDS)
        try:
            return self._goes_on(loop)
        finally:
            if is_next:
                self._door.release()

    def _goes_on(self, loop: Loop) -> bool:
        with self._pool.connection() as conn:
            now = self._watch.now(conn)
        return loop.step(self._pool, now)
