"""Connections whose work gives way: their PostgreSQL processes get a processor when others don't want it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg import BaseConnection

NICE = 10
"""A tenth of what another process gets of a processor that both want."""


def give_way(conn: BaseConnection[Any]) -> None:
    """Lower the priority of the connection's PostgreSQL process, for good, where that is one of ours on this machine."""
    info = conn.info
    if not info.host.startswith("/"):
        return
    process = Path("/proc") / str(info.backend_pid)
    with suppress(OSError):  # another user's, or on a system without /proc
        if (process / "comm").read_text() != "postgres\n":
            return
        own = os.getpriority(os.PRIO_PROCESS, info.backend_pid)
        os.setpriority(os.PRIO_PROCESS, info.backend_pid, max(own, NICE))
        # Each has a session of its own; Linux may share out processors among sessions first.
        (process / "autogroup").write_text(str(NICE))
