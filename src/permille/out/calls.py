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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import httpcore2
import httpx2

from permille.out.addresses import Reach, RefusedError, addresses_of, is_allowed

IDLE_SECONDS_MAX = 2.0
LOOK_SECONDS = 0.5
"""How often a call that waits for an answer looks whether its deadline was brought forward."""
USER_AGENT = "Permille"
_PIECE = 16_384


class CallError(Exception):
    """Why there is no answer, in a sentence for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`headers` by lower-case name; `body` as it was sent, `is_whole` unless it was longer than asked for.

    `is_from_inside` says that it came from an address that is not public.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    is_from_inside: bool


class Client:
    """One call at a time, over a connection that is kept for the next call. One thread uses it."""

    def __init__(self, reach: Reach) -> None:
        self._network = _Network(reach)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_tls(),
            max_connections=1,
            keepalive_expiry=IDLE_SECONDS_MAX,
            network_backend=self._network,
        )

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
            target, sent = _target(url)
            sent.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
            sent.update(headers.items())
            with self._pool.stream(method, target, headers=sent, content=content) as answer:
                return _read(answer, bytes_max, is_from_inside=self._network.is_inside)
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
        self._pool.close()

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
    httpx2.InvalidURL,
    OSError,
    ValueError,
)


def _target(url: str) -> tuple[httpcore2.URL, dict[bytes | str, bytes | str]]:
    """Where a URL leads, and the headers that follow from it: its host, and the credentials in it."""
    parts = httpx2.URL(url)
    headers: dict[bytes | str, bytes | str] = {"Host": parts.netloc}
    if parts.userinfo:
        pair = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    target = httpcore2.URL(
        scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path
    )
    return target, headers


def _read(answer: httpcore2.Response, bytes_max: int, *, is_from_inside: bool) -> Answer:
    body = bytearray()
    for piece in answer.iter_stream():
        body += piece
        if len(body) > bytes_max:
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
    return Answer(
        status=answer.status,
        headers=headers,
        body=bytes(body[:bytes_max]),
        is_whole=len(body) <= bytes_max,
        is_from_inside=is_from_inside,
    )


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


class _Network(httpcore2.NetworkBackend):
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

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 -- the deadline is the limit
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        self.is_inside = False
        *others, last = addresses_of(host, port, self._reach, self._wait)
        for number, address in enumerate(others):
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                share = self.left() / (len(others) + 1 - number)
                return self._connected(address, port, share, local_address, socket_options)
        return self._connected(last, port, self.left(), local_address, socket_options)

    def _wait(self, event: threading.Event) -> None:
        while not event.wait(min(self.left(), LOOK_SECONDS)):
            continue

    def _connected(
        self,
        address: str,
        port: int,
        seconds: float,
        local_address: str | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore2.NetworkStream:
        stream = self._sockets.connect_tcp(address, port, seconds, local_address, socket_options)
        self.is_inside = not is_allowed(address, Reach.PUBLIC)
        return _Stream(stream, self)


class _Stream(httpcore2.NetworkStream):
    """A connection of which each step ends at the deadline, however many bytes come before."""

    def __init__(self, stream: httpcore2.NetworkStream, network: _Network) -> None:
        self._stream, self._network = stream, network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        while True:
            with suppress(httpcore2.ReadTimeout):
                return self._stream.read(max_bytes, min(self._network.left(), LOOK_SECONDS))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        for begin in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[begin : begin + _PIECE], self._network.left())

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        return _Stream(
            self._stream.start_tls(ssl_context, server_hostname, self._network.left()), self._network
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()
