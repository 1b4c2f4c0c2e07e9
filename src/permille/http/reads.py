"""Reads that a process of its own does for the server, over a Unix socket: what is asked and answered, and the server's end.

The socket has a name and no file (Linux), which `permille up` makes up; each end makes sure that the other is of its own user.
A message is its length in four bytes, and MessagePack.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from typing import TypeVar
from uuid import UUID

import msgspec

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Reads that the reader does at once; the server does more by itself."""
PATIENCE_SECONDS = 120.0
LENGTH = struct.Struct("<I")
_PEER = struct.Struct("3i")
_PIECE = 4 * 1024**2

Message = TypeVar("Message", bound="Reading | Read")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a read: its operation (method and path with names), and what of it the read looks at."""

    operation: str
    path: dict[str, str]
    query: bytes
    authorization: bytes
    request_id: str | None


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and whose key asked for it: none if it is none."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes
    key_id: UUID | None = None
    organization_id: UUID | None = None


def encoded(message: Reading | Read) -> bytes:
    """The message as it is sent."""
    content = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(content)) + content


def decoded(content: bytes, kind: type[Message]) -> Message:
    """A message without its length."""
    return msgspec.msgpack.decode(content, type=kind)


def address_of(name: str) -> str:
    """The socket's address: the name alone, without a file."""
    return f"\0{name}"


def is_ours(connected: socket.socket) -> bool:
    """Whether the process at the other end is of the same user."""
    peer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return bool(_PEER.unpack(peer)[1] == os.geteuid())


def _check_peer(connected: socket.socket) -> None:
    if not is_ours(connected):
        raise PermissionError("a process of another user listens in its place")


class Reader:
    """The reader, as the server sees it. On one event loop."""

    def __init__(self, name: str) -> None:
        self._address = address_of(name)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._busy = 0

    async def read(self, asked: Reading) -> Read | None:
        """Its answer. None where it is not there, is busy or fails: then whoever asks reads by itself."""
        if self._busy >= AT_ONCE:
            return None
        self._busy += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._read(asked)
        except ConnectionRefusedError:
            return None  # it starts
        except (OSError, EOFError) as error:
            log.warning("The reader failed: %s", error)
            return None
        finally:
            self._busy -= 1

    async def _read(self, asked: Reading) -> Read:
        reader, writer = await self._connection()
        try:
            writer.write(encoded(asked))
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            found = decoded(await reader.readexactly(length), Read)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return found

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            connecting.connect(self._address)
            _check_peer(connecting)
            return await asyncio.open_unix_connection(sock=connecting, limit=_PIECE)
        except BaseException:
            connecting.close()
            raise

    def close(self) -> None:
        """Let go of its connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
