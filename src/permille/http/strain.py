"""Strain: how much the others feel of those who take most, by how long the server itself waits for a processor."""

from __future__ import annotations

import math
import time

from permille import processors

TICK_SECONDS = 0.02
"""How often it is measured, while several organizations are there."""
WAITS = 0.12
"""The part of the time that the event loop may wait before somebody is felt. By itself it waits for a third of that."""
WAITS_OF_WORK = 0.45
"""The part of its time, without what it sleeps, that work of those who take little may wait. Among themselves they wait for a third."""
WORK_SECONDS = 0.02
"""Less work than that says nothing."""
AVERAGE_SECONDS = 0.5
"""Over which that is an average."""
RAISED_SECONDS = 0.25
"""How soon it is raised again."""
LEAST, MOST = 0.5, 6.0
CALM_SECONDS = 8.0
"""In which the greatest strain is over."""


class Strain:
    """Doubled quickly while the loop waits, or work of those who take little; lowered slowly.

    A heavy owner rests so many times as long as its pieces took.
    """

    def __init__(self) -> None:
        self.level = 0.0
        self._waits = 0.0
        self._work_took = self._work_waited = 0.0
        self._since_raised = 0.0

    def worked(self, took: float, waited: float) -> None:
        """Work of somebody who takes little had a processor for so many seconds, and waited for one."""
        self._work_took += took
        self._work_waited += waited

    def note(self, waited: float, elapsed: float) -> None:
        """The loop waited for so long, in so many seconds that passed."""
        part = 1 - math.exp(-elapsed / AVERAGE_SECONDS)
        self._waits += (waited / elapsed - self._waits) * part
        self._work_took *= 1 - part
        self._work_waited *= 1 - part
        self._since_raised += elapsed
        if not self._is_felt:
            self.level = max(0.0, self.level - MOST * elapsed / CALM_SECONDS)
        elif self._since_raised >= RAISED_SECONDS:
            self.level, self._since_raised = min(max(LEAST, 2 * self.level), MOST), 0.0

    @property
    def _is_felt(self) -> bool:
        work = self._work_took + self._work_waited
        return self._waits > WAITS or (work > WORK_SECONDS and self._work_waited > work * WAITS_OF_WORK)

    def calm(self) -> None:
        """Nobody else is there."""
        self.level = self._waits = self._work_took = self._work_waited = 0.0


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
    found = processors.seconds_of(processors.THIS_THREAD)
    return None if found is None else found[1]
