"""Signals to stop, noticed by a flag and a pipe.

A handler runs between any two steps of the main thread, also in the middle of another handler: it sets a flag and
takes no lock.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any, Protocol, Self


class HasFileno(Protocol):
    """A file that can be waited for."""

    def fileno(self) -> int:
        """Its descriptor."""


class Signals:
    """Wakes the loop at a signal to stop or at the end of a child."""

    def __init__(self) -> None:
        self._stop_asked = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def stopping(self) -> bool:
        """Whether we were asked to stop."""
        return self._stop_asked

    def wait(self, seconds: float, *also: HasFileno) -> None:
        """Sleep, but not longer than until the next signal, or until one of the files is readable."""
        files: list[int | HasFileno] = [self._reader, *also]
        readable, _, _ = select.select(files, [], [], seconds)
        if self._reader in readable:
            os.read(self._reader, 4096)

    def __enter__(self) -> Self:
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._ask_to_stop)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._reader)
        os.close(self._writer)

    def leave_to_parent(self) -> None:
        """In a forked child, whose signals are its own: let go of the pipe."""
        os.close(self._reader)
        os.close(self._writer)

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_asked = True
