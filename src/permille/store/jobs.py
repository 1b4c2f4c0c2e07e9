"""Jobs: work that follows from a change, queued in the transaction of the change (rows of procrastinate).

Of a job with the same kind and key at most one waits and at most one runs: it does whatever is due at that key. Where much is due
another one may run beside it.
Of the jobs of one owner a few run at once, so that the slots of a queue are never all one owner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from psycopg import Connection

from permille.core.record import Record

QUEUE, SLOW_QUEUE = "default", "slow"
AT_ONCE, SLOW_AT_ONCE = 4, 2
"""Jobs of an owner that run at once in each of the queues."""


class Job(Record, kw_only=True):
    """`is_slow` jobs have slots of their own, so that they take none of the others. `owner` is an organization."""

    kind: str
    key: str
    owner: str
    is_slow: bool = False
    is_beside: bool = False
    """Whether it may run while another one of its key does. Of those only one runs at once, whosever it is: a key of
    which much is due takes a further process, and none of the shares of others."""

    @property
    def name(self) -> str:
        """One job of a name waits at most."""
        return f"{self.kind}:{self.key}{':beside' if self.is_beside else ''}"

    @property
    def lock(self) -> str:
        """Jobs with the same lock run one after the other."""
        if self.is_beside:
            return "beside"
        queue, at_once = (SLOW_QUEUE, SLOW_AT_ONCE) if self.is_slow else (QUEUE, AT_ONCE)
        return f"{queue}:{self.owner}:{crc32(self.key.encode()) % at_once}"


# The unique index on waiting jobs makes an insert wait for another transaction that has inserted the same one. The
# advisory lock prevents that: a transaction that does not get it leaves the job to the other transaction. That one may run before
# this one commits, so what is due is data, too, and a worker looks for it every second.
_DEFER = """
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
select queue, kind, lock, name, jsonb_build_object('key', key)
from unnest(%(queues)s::text[], %(kinds)s::text[], %(locks)s::text[], %(keys)s::text[], %(names)s::text[])
    as job (queue, kind, lock, key, name)
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
                "locks": [job.lock for job in jobs],
                "kinds": [job.kind for job in jobs],
                "keys": [job.key for job in jobs],
                "names": [job.name for job in jobs],
            },
        )
