"""Times that are measured on a machine that may be busy with other things."""

from __future__ import annotations

from collections.abc import Callable

MEASUREMENTS = 3
"""At most."""


def is_once_quick(too_slow: Callable[[], object]) -> None:
    """Whether one measurement finds nothing too slow: what else the machine does can slow one, a fault slows all of them."""
    found = []
    for _ in range(MEASUREMENTS):
        slow = too_slow()
        if not slow:
            return
        found.append(slow)
    raise AssertionError(found)
