"""What Linux says of a thread or a process of one thread: how long it had a processor, and how long it waited for one."""

from __future__ import annotations

import os
from pathlib import Path

THIS_THREAD = Path("/proc/thread-self")


def seconds_of(process: Path) -> tuple[float, float] | None:
    """On a processor, and ready without one, by its folder under /proc; None where the kernel doesn't say."""
    try:
        file = os.open(
            f"{process}/schedstat", os.O_RDONLY
        )  # each request looks at it: half of what `Path` takes
        try:
            took, waited, _ = os.read(file, 64).split()
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None
    return int(took) / 1e9, int(waited) / 1e9
