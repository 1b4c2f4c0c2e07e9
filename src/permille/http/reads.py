"""Reads that a process of its own does for the server, over a Unix socket: what is asked and answered, and the server's end.

The socket has a name and no file (Linux), which `permille up` makes up; each end makes sure that the other is of its own user.
A message is its length in four bytes, and MessagePack.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import msgspec

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Reads that the reader does at once; the server does more by itself."""
PATIENCE_SECONDS = 120.0
_LENGTH = struct.Struct("<I")
_PEER = struct.Struct("3i")

Message = TypeVar("Message", bound="Reading | Read")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a read: its path with names, which is a GET, and what of it the read looks at."""

    route: str
    path: dict[str, str]
    query: bytes
    authorization: bytes
    request_id: str | None
    is_heavy: bool
    """Whether its organization takes more than its share."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and whose key asked for it: none if it is none."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes
    key_id: UUID | None
    organization_id: UUID | None
    seconds: float
    """How long it took a processor."""


def address_of(name: str, *, is_behind: bool = False) -> str:
    """The socket's address: the name alone, without a file. The reader that gives way has one of its own."""
    return f"\0{name}-behind" if is_behind else f"\0{name}"


def is_ours(connected: socket.socket) -> bool:
    """Whether the process at the other end is of the same user."""
    peer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return bool(_PEER.unpack(peer)[1] == os.geteuid())


def send(connection: socket.socket, message: Reading | Read) -> None:
    """Send a message. Raises OSError."""
    content = msgspec.msgpack.encode(message)
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket, kind: type[Message]) -> Message:
    """The next message. Raises EOFError when the other end is closed, and OSError."""
    (length,) = _LENGTH.unpack(_bytes(connection, _LENGTH.size))
    return msgspec.msgpack.decode(_bytes(connection, length), type=kind)


def _bytes(connection: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    room = memoryview(found)
    while room:
        count = connection.recv_into(room)
        if not count:
            raise EOFError("the other end is closed")
        room = room[count:]
    return found


class Reader:
    """A reader, as the threads of the server see it. Where there is none, `ask_for_it` has it started."""

    def __init__(
        self, name: str, ask_for_it: Callable[[], None] = lambda: None, *, is_behind: bool = False
    ) -> None:
        self._address = address_of(name, is_behind=is_behind)
        self._ask_for_it = ask_for_it
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []
        self._busy = 0

    def read(self, asked: Reading) -> Read | None:
        """Its answer. None where it is not there, is busy or fails: then the caller reads by itself."""
        with self._lock:
            if self._busy >= AT_ONCE:
                return None
            self._busy += 1
        try:
            return self._read(asked)
        except ConnectionRefusedError:
            self._ask_for_it()
            return None  # until it has started
        except (OSError, EOFError) as error:
            log.warning("The reader failed: %s", error)
            return None
        finally:
            with self._lock:
                self._busy -= 1

    def _read(self, asked: Reading) -> Read:
        connection = self._known() or self._new()
        try:
            send(connection, asked)
            found = receive(connection, Read)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle.append(connection)
        return found

    def _known(self) -> socket.socket | None:
        """A connection that waits, and that the reader has not closed."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            looking = select.poll()
            looking.register(connection, select.POLLIN)
            if not looking.poll(0):
                return connection
            connection.close()

    def _new(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(self._address)
            _check_peer(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Let go of the connections that wait."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def _check_peer(connected: socket.socket) -> None:
    if not is_ours(connected):
        raise PermissionError("a process of another user listens in its place")
