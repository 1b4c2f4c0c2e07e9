"""A worker in a process of its own, which moves clocks until somebody kills it: `python -m tests.simulation.worker DSN`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from permille.database.connections import open_pool
from permille.usecases.due import due


def main(dsn: str) -> None:
    """Say that it is ready, wait for a line, then work without end, in transactions that are as short as may be."""
    pool = open_pool(dsn, size=1, name="simulated-worker")
    print("ready", flush=True)
    sys.stdin.readline()
    with patch.object(due, "STEP_SECONDS", 0.02):
        while True:
            due.move_clocks(pool, datetime.now(UTC) + timedelta(days=1))


if __name__ == "__main__":
    main(sys.argv[1])
