"""HTTP calls to addresses that users gave.

A call has one deadline for all of it: name look-up, connecting, TLS, sending, headers and body together. Its
answer is bounded and never unpacked, redirects are not followed, and the address that was checked is the one that is
connected to, since looking up, checking and connecting are one step. What an address inside has sent is in no error.
"""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import httpcore2
import msgspec

from permille.core.record import Record
from permille.out.addresses import Reach, RefusedError, addresses_of, is_allowed
from permille.out.exchange import Reply, request_bytes

IDLE_SECONDS_MAX = 2.0
LOOK_SECONDS = 0.5
"""How often a call that waits for an answer looks whether its deadline was brought forward."""
USER_AGENT = "Permille"
_PIECE = 16_384


class CallError(Exception):
    """Why there is no answer, in a sentence for the user."""


class Answer(Record, kw_only=True):
    """`headers` by lower-case name; `body` as it was sent, `is_whole` unless it was longer than asked for.

    `is_from_inside` says that it came from an address that is not public.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    is_from_inside: bool

    def json_object(self) -> dict[str, Any]:
        """The JSON object that the body is, an empty one where it is something else."""
        try:
            found = msgspec.json.decode(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class Client:
    """One call at a time, over a connection that is kept for the next call. One thread uses it."""

    def __init__(self, reach: Reach) -> None:
        self._network = _Network(reach)
        self._connection: _Connection | None = None

    def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        seconds: float,
        bytes_max: int,
    ) -> Answer:
        """Send a request and read at most `bytes_max` bytes of the answer's body. Raises CallError."""
        self._network.until = time.monotonic() + seconds
        try:
            target = _target(url)
            request = request_bytes(method, target.path, target.head, headers, content)
            return self._exchanged(target, request, bytes_max)
        except RefusedError as error:
            raise CallError(str(error)) from error
        except (TimeoutError, httpcore2.TimeoutException) as error:
            raise CallError(f"No answer within {seconds:g} seconds.") from error
        except _FAILURES as error:
            kind = type(error).__name__
            raise CallError(
                f"{kind} at a private address." if self._network.is_inside else f"{kind}: {error}"
            ) from error

    def hurry(self, seconds: float) -> None:
        """Bring the deadline of the call under way forward; from any thread."""
        self._network.until = min(self._network.until, time.monotonic() + seconds)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.stream.close()
            self._connection = None

    def _exchanged(self, target: _Target, request: bytes, bytes_max: int) -> Answer:
        connection = self._connected(target)
        reply = Reply(bytes_max)
        try:
            connection.stream.write(request)
            reply.read_from(connection.stream.read)
        finally:
            if not reply.keeps_connection:
                self.close()
        connection.used_at = time.monotonic()
        return Answer(
            status=reply.status,
            headers=reply.headers,
            body=bytes(reply.body[:bytes_max]),
            is_whole=len(reply.body) <= bytes_max,
            is_from_inside=self._network.is_inside,
        )

    def _connected(self, target: _Target) -> _Connection:
        """The connection of the last call if it leads there and is still good, else a new one."""
        kept = self._connection
        if kept is not None and kept.origin == target.origin and kept.is_good():
            return kept
        self.close()
        scheme, host, port = target.origin
        stream = self._network.connect_tcp(host, port)
        if scheme == "https":
            stream = stream.start_tls(_tls(), host)
        self._connection = _Connection(origin=target.origin, stream=stream)
        return self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,
    ValueError,
)

_Origin = tuple[str, str, int]
"""Scheme, host and port."""


@dataclass(slots=True, kw_only=True)
class _Connection:
    """A connection to where a call went, and when that call ended."""

    origin: _Origin
    stream: _Stream
    used_at: float = 0.0

    def is_good(self) -> bool:
        """Whether it has not been idle for long, and the other end has neither closed it nor sent what nobody asked for."""
        is_recent = time.monotonic() - self.used_at <= IDLE_SECONDS_MAX
        return is_recent and not self.stream.get_extra_info("is_readable")


class _Target(Record, kw_only=True):
    """Where a URL leads, and the header lines that follow from it: its host, and the credentials in it."""

    origin: _Origin
    path: bytes
    head: bytes


_PORTS = {"http": 80, "https": 443}
_EVERY_HEAD = f"User-Agent: {USER_AGENT}\r\nAccept-Encoding: identity\r\n".encode()


@lru_cache(maxsize=64)
def _target(url: str) -> _Target:
    import httpx2

    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise CallError(f"InvalidURL: {error}") from error
    if parts.scheme not in _PORTS or not parts.host:
        raise httpcore2.UnsupportedProtocol("A URL begins with http:// or https:// and a host.")
    head = b"Host: %s\r\n" % parts.netloc + _EVERY_HEAD
    if parts.userinfo:
        pair = base64.b64encode(f"{parts.username}:{parts.password}".encode())
        head += b"Authorization: Basic %s\r\n" % pair
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return _Target(origin=(parts.scheme, parts.raw_host.decode(), port), path=parts.raw_path, head=head)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    import httpx2

    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Network:
    """Connections that end at the deadline of the call, to addresses that may be called."""

    def __init__(self, reach: Reach) -> None:
        self.until = 0.0
        self.is_inside = False
        """Whether the connection is to an address that is not public."""
        self._reach = reach
        self._sockets = httpcore2.SyncBackend()

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError after it."""
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def connect_tcp(self, host: str, port: int) -> _Stream:
        """Connect to one of the host's addresses, all of which may be called."""
        self.is_inside = False
        *others, last = addresses_of(host, port, self._reach, self._wait)
        for number, address in enumerate(others):
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                share = self.left() / (len(others) + 1 - number)
                return self._connected(address, port, share)
        return self._connected(last, port, self.left())

    def _wait(self, event: threading.Event) -> None:
        while not event.wait(min(self.left(), LOOK_SECONDS)):
            continue

    def _connected(self, address: str, port: int, seconds: float) -> _Stream:
        stream = self._sockets.connect_tcp(address, port, seconds, socket_options=())
        self.is_inside = not is_allowed(address, Reach.PUBLIC)
        return _Stream(stream, self)


class _Stream:
    """A connection of which each step ends at the deadline, however many bytes come before."""

    def __init__(self, stream: httpcore2.NetworkStream, network: _Network) -> None:
        self._stream, self._network = stream, network

    def read(self, max_bytes: int) -> bytes:
        """Some bytes, or none at the end."""
        while True:
            with suppress(httpcore2.ReadTimeout):
                return self._stream.read(max_bytes, min(self._network.left(), LOOK_SECONDS))

    def write(self, content: bytes) -> None:
        """All of it, a piece at a time."""
        for begin in range(0, len(content), _PIECE):
            self._stream.write(content[begin : begin + _PIECE], self._network.left())

    def start_tls(self, context: ssl.SSLContext, host: str) -> _Stream:
        """The same, encrypted; it is closed where that fails."""
        return _Stream(self._stream.start_tls(context, host, self._network.left()), self._network)

    def get_extra_info(self, name: str) -> Any:
        """What httpcore's stream knows of itself."""
        return self._stream.get_extra_info(name)

    def close(self) -> None:
        """Let go of it."""
        self._stream.close()
