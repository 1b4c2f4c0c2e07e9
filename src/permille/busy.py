"""How busy a process is, so that it can ask for help, or end when it has nothing to do."""

from __future__ import annotations

import threading
import time
from types import TracebackType


class Busy:
    """For how long at least so many threads have been at something without a pause. A thread that is enters and leaves."""

    def __init__(self, least: int = 1) -> None:
        self._least, self._lock = least, threading.Lock()
        self._at_work = 0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """0 while there is a pause."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def __enter__(self) -> None:
        with self._lock:
            self._at_work += 1
            if self._at_work == self._least:
                self._since = time.monotonic()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._at_work -= 1
            if self._at_work < self._least:
                self._since = None


class Patience:
    """Ends when there was nothing to do for so long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    def begin_again(self) -> None:
        """There was something to do just now."""
        self._until = time.monotonic() + self._seconds

    def is_over(self) -> bool:
        """Whether it has ended."""
        return time.monotonic() >= self._until
