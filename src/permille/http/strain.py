"""Strain: how much the others feel of those who take most, by how long the server itself waits for a processor."""

from __future__ import annotations

import math
import time
from pathlib import Path

TICK_SECONDS = 0.02
"""How often it is measured, while several organizations are there."""
WAITS = 0.12
"""The part of the time that the event loop may wait before somebody is felt. By itself it waits for a third of that."""
AVERAGE_SECONDS = 0.5
"""Over which that is an average."""
RAISED_SECONDS = 0.25
"""How soon it is raised again."""
LEAST, MOST = 0.5, 4.0
CALM_SECONDS = 8.0
"""In which the greatest strain is over."""
_SCHEDULED = Path("/proc/thread-self/schedstat")


class Strain:
    """Doubled quickly while the loop waits, lowered slowly: a heavy owner rests so many times as long as its pieces took."""

    def __init__(self) -> None:
        self.level = 0.0
        self._waits = 0.0
        self._since_raised = 0.0

    def note(self, waited: float, elapsed: float) -> None:
        """The loop waited for so long, in so many seconds that passed."""
        part = 1 - math.exp(-elapsed / AVERAGE_SECONDS)
        self._waits += (waited / elapsed - self._waits) * part
        self._since_raised += elapsed
        if self._waits <= WAITS:
            self.level = max(0.0, self.level - MOST * elapsed / CALM_SECONDS)
        elif self._since_raised >= RAISED_SECONDS:
            self.level, self._since_raised = min(max(LEAST, 2 * self.level), MOST), 0.0

    def calm(self) -> None:
        """Nobody else is there."""
        self.level = self._waits = 0.0


class Wait:
    """How long this thread waits for a processor: what Linux counts, elsewhere how late it wakes up."""

    def __init__(self) -> None:
        self._until_now = _waited()
        self._began = time.monotonic()

    def over(self, seconds: float) -> tuple[float, float]:
        """The wait, and how long ago this began, of which it has slept for so many seconds."""
        elapsed, waited = time.monotonic() - self._began, _waited()
        if waited is None or self._until_now is None:
            return max(0.0, elapsed - seconds), elapsed
        return waited - self._until_now, elapsed


def _waited() -> float | None:
    """The seconds that this thread was ready and had no processor."""
    try:
        return int(_SCHEDULED.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return None
