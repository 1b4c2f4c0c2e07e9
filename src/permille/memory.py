"""The garbage collector of a process that works on large batches, and the turns of its threads."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def calm_collector() -> None:
    """Objects that exist now stay, and a batch is no reason to search the heap for cycles: there are none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


_pauses = 0
_counting = threading.Lock()


@contextmanager
def paused_collector() -> Iterator[None]:
    """No search for cycles, by any thread, while a batch is made of which all goes when it is done."""
    _pause(1)
    try:
        yield
    finally:
        _pause(-1)


def _pause(change: int) -> None:
    global _pauses  # noqa: PLW0603 - the collector is the process's, and so is the number of those who want it to rest
    with _counting:
        _pauses += change
        if _pauses:
            gc.disable()
        else:
            gc.enable()


def quick_turns() -> None:
    """Let a thread that has something short to do, as the event loop, wait a fifth of a millisecond for one that reckons, not five.

    It waits so each time that it comes back from the system, and the others take it from there as soon.
    """
    sys.setswitchinterval(0.0002)
