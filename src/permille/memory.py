"""The garbage collector of a process that works on large batches."""

from __future__ import annotations

import gc


def calm_collector() -> None:
    """Objects that exist now stay, and a batch is no reason to search the heap for cycles: there are none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
