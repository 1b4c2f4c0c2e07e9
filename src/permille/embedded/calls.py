"""A program of `permille up` asks for one that is started only when it is needed.

It sends what it asks for to a Unix socket with a name and no file (Linux), which `permille up` makes up. Another user of the
machine could do so too, and would start what may run at any time.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress

from permille.config import CALLS_SOCKET

READING, READING_BEHIND, WORKING = "reading", "reading behind", "working"
"""What is asked for: a process for heavy reads, one for what gives way to everything else, one more worker."""

_SIZE_MAX = 64
_AT_ONCE = 64


class Calls:
    """What is asked for, at the end of `permille up`."""

    def __init__(self) -> None:
        self.name = f"permille-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(_address_of(self.name))

    def fileno(self) -> int:
        """Readable when something is asked for."""
        return self._socket.fileno()

    def take(self) -> set[str]:
        """What was asked for since the last time."""
        found: set[str] = set()
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                found.add(self._socket.recv(_SIZE_MAX).decode(errors="replace"))
        return found

    def close(self) -> None:
        """Hear no more; in a forked child, leave that to the parent."""
        self._socket.close()


def ask_for(what: str) -> None:
    """Ask for a program. Nothing happens if all that do that run, or where `permille up` has not started this process."""
    calls = os.environ.get(CALLS_SOCKET)
    if calls is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as caller, suppress(OSError):
        caller.sendto(what.encode(), _address_of(calls))


def _address_of(name: str) -> str:
    return f"\0{name}"
