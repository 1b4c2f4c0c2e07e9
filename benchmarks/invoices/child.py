"""The worker's run in a process of its own, to be killed: python -m benchmarks.invoices.child <dsn>."""

from __future__ import annotations

import sys

from permille.billing import due
from permille.store.db import open_pool

from .population import DUE

if __name__ == "__main__":
    pool = open_pool(sys.argv[1], size=3, name="killed")
    print(due.run_live(pool, DUE))
    pool.close()
