"""One HTTP/1.1 exchange over a stream: the bytes of a request, and the reading of its answer by llhttp.

What is read is bounded before anything is made of it: a head, the wrapping of chunks and trailers may not be endless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpcore2
import httptools

HEAD_BYTES_MAX = 131_072
WRAPPING = 8
"""How many times as long as its body a body may be with what is around it."""
_FIRST_FINAL = 200
_READ_BYTES = 65_536
_IN_NO_HEADER = ("\0", "\r", "\n")


def request_bytes(
    method: str, path: bytes, head: bytes, headers: Mapping[str, str], content: bytes | None
) -> bytes:
    """A request as it is sent; `head` are header lines that are ready. Raises ValueError for a header of two lines."""
    for name, value in headers.items():
        if any(each in name or each in value for each in _IN_NO_HEADER):
            raise ValueError(f"The header {name!r} holds the end of a line.")
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    length = b"" if content is None else b"Content-Length: %d\r\n" % len(content)
    first = b"%s %s HTTP/1.1\r\n" % (method.encode("ascii"), path)
    return b"".join([first, head, own.encode("latin-1"), length, b"\r\n", content or b""])


class Reply:
    """An answer that is read: its head, and of its body one piece more than is wanted at most.

    Answers that only announce another one (1xx) are passed over.
    """

    def __init__(self, bytes_max: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.keeps_connection = False
        """Whether another request may be sent over the connection."""
        self._bytes_max = bytes_max
        self._has_head = self._is_whole = self._has_more = False
        self._parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._has_more = self._is_whole

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for those after the body too, which are left out."""
        if not self._has_head:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._is_whole:
            return
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= _FIRST_FINAL
        if not self._has_head:
            self.headers = {}

    def on_body(self, piece: bytes) -> None:
        """Called by the parser."""
        if not self._is_whole:
            self.body += piece

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._has_head and not self._is_whole:
            self._is_whole = True
            self.keeps_connection = bool(self._parser.should_keep_alive())

    def read_from(self, read: Callable[[int], bytes]) -> None:
        """Read until it is whole or longer than wanted. Raises httpcore2.RemoteProtocolError when it is no answer."""
        left = HEAD_BYTES_MAX + WRAPPING * self._bytes_max
        while not self._is_whole and len(self.body) <= self._bytes_max:
            piece = read(_READ_BYTES)
            if not piece:
                self._end()
                return
            left -= len(piece)
            self._feed(piece)
            if left < 0 or (not self._has_head and left < WRAPPING * self._bytes_max):
                raise httpcore2.RemoteProtocolError("What comes around the answer's body has no end.")
        if self._has_more:  # what nobody has asked for is no answer to the next request
            self.keeps_connection = False

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as error:
            raise httpcore2.RemoteProtocolError("The answer changes to another protocol.") from error
        except httptools.HttpParserError as error:
            if not self._is_whole:
                raise httpcore2.RemoteProtocolError(str(error)) from error
            self._has_more = True

    def _end(self) -> None:
        """The other end has closed: without a length that is how a body ends."""
        has_length = "content-length" in self.headers or "transfer-encoding" in self.headers
        if not self._has_head or has_length:
            raise httpcore2.RemoteProtocolError("The connection was closed before the answer was whole.")
