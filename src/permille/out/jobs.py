"""The kinds of jobs, and the worker that runs them, by procrastinate.

To add a kind: a module with its `Kind`, one line in KINDS, and store.jobs.defer in the transaction of the change.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status

from permille.busy import Busy
from permille.database.connections import IDLE_SECONDS
from permille.out import usage_charts, webhooks
from permille.out.kind import Context, Kind
from permille.out.mail import sending as mail
from permille.store.jobs import QUEUE, SLOW_QUEUE

log = logging.getLogger(__name__)

KINDS = (webhooks.JOB, usage_charts.JOB, mail.JOB)

SLOTS = {QUEUE: 16, SLOW_QUEUE: 8}
"""How many jobs of a queue a process runs at once."""
POLL_SECONDS = 0.5
"""A job that waited for another one of its key has no notification of its own."""
DEAD_AFTER_SECONDS = 30.0
"""A worker without a sign of life for so long is taken for dead, and its jobs are run by others."""
CONNECTIONS = 4
CONNECTION_SECONDS = 5.0
"""How long a connection is waited for."""
"""The connections of procrastinate: one listens, the others fetch and finish jobs."""


def work(
    dsn: str,
    context: Context,
    stopping: threading.Event,
    *,
    kinds: Sequence[Kind] = KINDS,
    dead_after: float = DEAD_AFTER_SECONDS,
    busy: Busy | None = None,
) -> None:
    """Run jobs until `stopping` is set and the jobs under way have ended. Raises what ends it earlier.

    A job that runs counts for `busy`.
    """
    asyncio.run(_work(dsn, context, stopping, kinds, dead_after=dead_after, busy=busy or Busy()))


async def _work(
    dsn: str,
    context: Context,
    stopping: threading.Event,
    kinds: Sequence[Kind],
    *,
    dead_after: float,
    busy: Busy,
) -> None:
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    app = App(
        connector=PsycopgConnector(
            conninfo=dsn,
            min_size=1,
            max_size=CONNECTIONS,
            timeout=CONNECTION_SECONDS,
            max_idle=IDLE_SECONDS,
            kwargs={"application_name": "permille-jobs"},
        )
    )
    for kind in kinds:
        app.task(name=kind.name)(partial(_run, kind, context, busy))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(sum(SLOTS.values())))
    async with app.open_async():
        tasks = [
            asyncio.create_task(
                app.run_worker_async(
                    queues=[queue],
                    concurrency=slots,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    fetch_job_polling_interval=POLL_SECONDS,
                    listen_notify=queue == QUEUE,
                    update_heartbeat_interval=dead_after / 3,
                    stalled_worker_timeout=dead_after,
                )
            )
            for queue, slots in SLOTS.items()
        ]
        tasks.append(asyncio.create_task(_rescue(app, dead_after)))
        await _until_any_ends(tasks, stopping.is_set)


def _run(kind: Kind, context: Context, busy: Busy, *, key: str) -> None:
    with busy:
        kind.run(context, key)


async def _until_any_ends(tasks: Sequence[asyncio.Task[None]], is_stopping: Callable[[], bool]) -> None:
    """Wait until one of the tasks has failed or all are to stop, then let each end what it is at."""
    while not is_stopping() and not any(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def _rescue(app: App, dead_after: float) -> None:
    """Queue the jobs of dead workers again."""
    while True:
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=dead_after):
            log.warning("The worker of %s has died; it is run again", job.call_string)
            await _run_again(app, job)
        await asyncio.sleep(dead_after / 3)


async def _run_again(app: App, job: Job) -> None:
    try:
        await app.job_manager.retry_job(job)
    except UniqueViolation:  # the same one waits already
        await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
    except ConnectorException as error:  # another worker was faster
        log.info("%s is not run again by this worker: %s", job.call_string, error.__cause__)
