"""What a stretch of work costs: processor time of the server and of PostgreSQL, write-ahead log, disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processor time and bytes, as counted since the start of each."""

    server: float
    postgres: float
    log: int
    disk: int

    def __sub__(self, before: Cost) -> Cost:
        return Cost(
            self.server - before.server,
            self.postgres - before.postgres,
            self.log - before.log,
            self.disk - before.disk,
        )


def cost_so_far(conn: Connection[Any], pids: Sequence[int], tables: Sequence[str]) -> Cost:
    """Of the processes, and of the log and the tables with their indexes. `conn` is in autocommit."""
    server = postgres = 0.0
    for pid in pids:
        seconds, is_postgres = seconds_of(pid)
        if is_postgres:
            postgres += seconds
        else:
            server += seconds
    row = conn.execute(
        "select pg_current_wal_lsn() - '0/0'::pg_lsn, (select sum(pg_total_relation_size(t::regclass)) from unnest(%s::text[]) t)",
        [list(tables)],
    ).fetchone()
    assert row is not None
    return Cost(server, postgres, int(row[0]), int(row[1]))


def seconds_of(pid: int) -> tuple[float, bool]:
    """Processor time of a process and of its children that have ended, and whether it is PostgreSQL's."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0, False
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / _TICKS, name == "postgres"
