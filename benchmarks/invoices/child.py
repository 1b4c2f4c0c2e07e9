"""The worker's run in a process of its own, to be killed: python -m benchmarks.invoices.child <dsn>."""

from __future__ import annotations

import sys

from permille.database.connections import open_pool
from permille.memory import calm_collector
from permille.usecases.due import due

from .population import DUE

if __name__ == "__main__":
    calm_collector()  # as the worker does
    pool = open_pool(sys.argv[1], size=3, name="killed")
    billed = 0
    while some := due.run_live(pool, DUE):  # over and over, as the worker does
        billed += some
    print(billed)
    pool.close()
