"""Request bodies: read as they come, unpacked when they are gzip, and never more than a limit of bytes."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Hashable
from typing import Self
from uuid import UUID

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from permille.core.errors import BadRequest, Refusal

MEMBERS_MAX = 1_000
LONG_BYTES = 1_048_576
"""A longer body is put together by a thread."""
_GZIP = 16 + zlib.MAX_WBITS

Headers = Collection[tuple[bytes, bytes]]


class BodyMemory:
    """Memory for the bodies that are being read or answered, on one event loop.

    A known owner has half of it, all requests without one a sixteenth. One body alone always fits.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._taken_by: dict[Hashable, int] = {}

    def of(self, owner: Hashable | None) -> BodyShare:
        """What one request of an owner takes, None for one without a key. It is given back at the end of the context."""
        return BodyShare(self, owner.int if isinstance(owner, UUID) else owner)

    def take(self, owner: Hashable | None, size: int) -> None:
        """Raises Refusal: 503 when everything is taken, 429 when the owner's share is."""
        own = self._taken_by.get(owner, 0)
        if self._taken and self._taken + size > self._limit:
            raise Refusal(status=503, code="too_many_bytes")
        if own and own + size > self._limit // (2 if owner is not None else 16):
            raise Refusal(status=429, code="too_many_bytes")
        self._taken += size
        self._taken_by[owner] = own + size

    def give_back(self, owner: Hashable | None, size: int) -> None:
        """The bodies are done with."""
        self._taken -= size
        left = self._taken_by.pop(owner) - size
        if left:
            self._taken_by[owner] = left


class BodyShare:
    """What the body of one request takes of the memory."""

    __slots__ = ("_memory", "_owner", "_size")

    def __init__(self, memory: BodyMemory, owner: Hashable | None) -> None:
        self._memory = memory
        self._owner = owner
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """The body is done with."""
        if self._size:
            self._memory.give_back(self._owner, self._size)
            self._size = 0

    def take(self, size: int) -> None:
        """Raises Refusal with 503 or 429."""
        if size:
            self._memory.take(self._owner, size)
            self._size += size


def brings_body(headers: Headers) -> bool:
    """Whether a body follows the headers."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ") != b"")
        for name, value in headers
    )


def announced_length(headers: Headers) -> int | None:
    """The length of the body that the headers announce; None for a body that is sent in chunks, which may be of any."""
    announced = next((value for name, value in headers if name == b"content-length"), b"")
    return int(announced) if announced.isdigit() else None


async def read_body(headers: Headers, receive: Receive, limit: int, share: BodyShare) -> bytes:
    """The whole body, unpacked.

    Raises Refusal with 413 above the limit, 415 for an encoding that is not known, and what the share raises; BadRequest
    for broken gzip, ClientDisconnect when the client is gone before the end.
    """
    announced = announced_length(headers)
    if announced is not None and announced > limit:
        raise too_large()
    unpack = _Gunzip(limit) if _is_packed(headers) else None
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large()
        piece = unpack.feed(chunk) if unpack else chunk
        share.take(len(piece))
        chunks.append(piece)
        more = message.get("more_body", False)
    if unpack:
        unpack.finish()
    if len(chunks) == 1:
        return chunks[0]
    if size > LONG_BYTES:  # which takes milliseconds, and the interpreter is free meanwhile
        return await asyncio.to_thread(b"".join, chunks)
    return b"".join(chunks)


def too_large() -> Refusal:
    return Refusal(status=413, code="body_too_large")


def _is_packed(headers: Headers) -> bool:
    """Whether the body is gzip. Raises Refusal with 415 for anything else but a plain one."""
    if b"content-encoding" not in dict(headers):
        return False
    named = [value for name, value in headers if name == b"content-encoding"]
    encodings = [each.strip() for each in b",".join(named).lower().split(b",")]
    packed = [each for each in encodings if each not in (b"", b"identity")]
    if not packed:
        return False
    if packed not in ([b"gzip"], [b"x-gzip"]):
        raise Refusal(status=415, code="unsupported_content_encoding")
    return True


class _Gunzip:
    """Unpacks gzip piece by piece, with several members in a row, up to a limit of unpacked bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._members = 0
        self._stream: zlib._Decompress | None = None

    def feed(self, packed: bytes) -> bytes:
        """What these bytes add."""
        found: list[bytes] = []
        try:
            while packed:
                stream = self._open()
                piece = stream.decompress(packed, self._limit - self._size + 1)
                self._size += len(piece)
                if self._size > self._limit:
                    raise too_large()
                found.append(piece)
                packed = stream.unconsumed_tail or stream.unused_data
        except zlib.error as error:
            raise BadRequest("the body isn't valid gzip, as Content-Encoding says it is") from error
        return b"".join(found)

    def finish(self) -> None:
        """Raises BadRequest when the end is missing."""
        if self._stream is not None and not self._stream.eof:
            raise BadRequest("the body is cut off: its gzip has no end")

    def _open(self) -> zlib._Decompress:
        """The member that is being unpacked, or the next one."""
        if self._stream is None or self._stream.eof:
            self._members += 1
            if self._members > MEMBERS_MAX:
                raise BadRequest("the body's gzip is in too many parts")
            self._stream = zlib.decompressobj(_GZIP)
        return self._stream
