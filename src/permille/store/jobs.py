"""Jobs: work that follows from a change, queued in the transaction of the change (rows of procrastinate).

Of a job with the same kind and key at most one waits and at most one runs: it does whatever is due at that key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

QUEUE, SLOW_QUEUE = "default", "slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`is_slow` jobs have slots of their own, so that they take none of the others."""

    kind: str
    key: str
    is_slow: bool = False


# The unique index on waiting jobs makes an insert wait for another transaction that has inserted the same one. The
# advisory lock prevents that: a transaction that does not get it leaves the job to the other transaction. That one may run before
# this one commits, so what is due is data, too, and a worker looks for it every second.
_DEFER = """
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
select queue, kind, name, name, jsonb_build_object('key', key)
from unnest(%(queues)s::text[], %(kinds)s::text[], %(keys)s::text[]) as job (queue, kind, key),
    lateral (select kind || ':' || key) as named (name)
where pg_try_advisory_xact_lock(hashtextextended(name, 0))
on conflict (queueing_lock) where status = 'todo' do nothing
"""


def defer(conn: Connection[Any], jobs: Sequence[Job]) -> None:
    """Queue jobs, each unless the same one waits already; they run after the commit. It never waits for others."""
    if jobs:
        conn.execute(
            _DEFER,
            {
                "queues": [SLOW_QUEUE if job.is_slow else QUEUE for job in jobs],
                "kinds": [job.kind for job in jobs],
                "keys": [job.key for job in jobs],
            },
        )
