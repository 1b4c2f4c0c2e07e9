"""The garbage collector of a process that works on large batches, and the turns of its threads."""

from __future__ import annotations

import gc
import sys


def calm_collector() -> None:
    """Objects that exist now stay, and a batch is no reason to search the heap for cycles: there are none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def quick_turns() -> None:
    """Let a thread that has something short to do, as the event loop, wait a millisecond for one that reckons, not five."""
    sys.setswitchinterval(0.001)
