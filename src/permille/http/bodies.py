"""Request bodies: read as they come, unpacked when they are gzip, and never more than a limit of bytes."""

from __future__ import annotations

import zlib
from collections.abc import Collection

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from permille.core.errors import BadRequest, Refusal

MEMBERS_MAX = 1_000
_GZIP = 16 + zlib.MAX_WBITS

Headers = Collection[tuple[bytes, bytes]]


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body, unpacked.

    Raises Refusal with 413 above the limit and 415 for an encoding that is not known, BadRequest for broken
    gzip, ClientDisconnect when the client is gone before the end.
    """
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
        chunks.append(unpack.feed(chunk) if unpack else chunk)
        more = message.get("more_body", False)
    if unpack:
        unpack.finish()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


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
