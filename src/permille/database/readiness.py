"""Whether the database can serve: it answers, takes writes, and has room on its disk."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection

from permille.database.connections import is_unavailable

OK = "ok"
UNAVAILABLE = "database_unavailable"
FULL = "disk_full"
READ_ONLY = "read_only"
_DISK_FULL = "53100"

# A sort that is too large for its memory: it writes half a megabyte beside the tables, and leaves nothing.
_WRITE = "select count(distinct repeat('x', 1000) || n) from generate_series(1, 500) as n"


def readiness(conn: Connection[Any]) -> str:
    """OK, or what is in the way."""
    try:
        with conn.transaction():
            conn.execute("set local work_mem = '64kB'")
            found = conn.execute("select current_setting('transaction_read_only')").fetchone()
            conn.execute(_WRITE)
    except psycopg.Error as error:
        if error.sqlstate == _DISK_FULL:
            return FULL
        if is_unavailable(error):
            return UNAVAILABLE
        raise
    return OK if found == ("off",) else READ_ONLY
