"""Leaving out for a while what was done in vain."""

from __future__ import annotations

PAUSE_MAX = 63


class Pause:
    """How often something is left out after it was done in vain: the longer, the oftener that was."""

    __slots__ = ("_next", "left")

    def __init__(self) -> None:
        self.left = self._next = 0
        """How often it is still left out."""

    def is_over(self) -> bool:
        """Whether it is to be done this time."""
        if self.left:
            self.left -= 1
            return False
        return True

    def went(self, *, well: bool) -> None:
        """It was done."""
        self.left = self._next = 0 if well else min(2 * self._next + 1, PAUSE_MAX)
