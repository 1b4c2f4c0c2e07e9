"""The door: what a connection may send and hold before anybody has looked at its request.

uvicorn's protocol with bounds: bytes, lines and time for headers, time for a whole request and for taking in its
answer, connections of everybody and of one address. Refusals are answers in the shape of the API's, where one can still
be given. All of it is on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from permille.config import NO_NETWORKS, Networks
from permille.http.clients import household
from permille.http.refusals import STATUS_HEADERS, error_body
from permille.http.words import in_words

HEAD_BYTES_MAX = 64 * 1024
HEAD_LINES_MAX = 100
FRAMING_PER_BYTE = 16
"""What chunks and trailers may have of their own for each byte of a body, above HEAD_BYTES_MAX."""
SWEEP_SECONDS = 0.5
OPEN_FILES_KEPT = 256
"""Open files that are not connections: the database's, the log's."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """Seconds, and connections at once."""

    head_seconds: float = 10.0
    """From a request's first byte to the end of its headers, and from a connection to its first request."""
    request_seconds: float = 30.0
    """From there to the end of its body."""
    answer_seconds: float = 60.0
    """How long a client may take in nothing of an answer."""
    connections: int = 10_000
    connections_of_address: int = 2_000
    """Those of a trusted proxy are not counted."""
    trusted_proxies: Networks = NO_NETWORKS
    hosts: frozenset[str] = frozenset()
    """The names that requests may be for; empty: any."""


class Door:
    """The connections of a process. Those that keep it waiting longest are closed first when there are too many."""

    def __init__(self, limits: DoorLimits) -> None:
        self.limits = limits
        self.count = 0
        self.of_address: Counter[str] = Counter()
        self.heads: dict[str, dict[GuardedProtocol, float]] = {}
        """Address -> its connections that have not sent all of their headers, since when, the oldest first."""
        self.bodies: dict[GuardedProtocol, float] = {}
        self.answers: dict[GuardedProtocol, tuple[float, int]] = {}
        """Those that take in no answer: since when, with how many bytes still to go."""
        self.sweeping: asyncio.TimerHandle | None = None

    def enter(self, connection: GuardedProtocol, loop: asyncio.AbstractEventLoop) -> bool:
        """Count a connection; False when there is no room for it."""
        if self.sweeping is None:
            self.sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        own, limits = connection.household, self.limits
        if own and self.of_address[own] >= limits.connections_of_address and not self._evict(own):
            return False
        if self.count >= limits.connections and not self._evict(next(iter(self.heads), own)):
            return False
        self.count += 1
        self.of_address[own] += 1
        return True

    def leave(self, connection: GuardedProtocol) -> None:
        """A counted connection is over."""
        own = connection.household
        self.count -= 1
        self.of_address[own] -= 1
        if not self.of_address[own]:
            del self.of_address[own]
        self.head_is_over(connection)
        self.bodies.pop(connection, None)
        self.answers.pop(connection, None)

    def head_begins(self, connection: GuardedProtocol, now: float) -> None:
        """The connection owes headers."""
        self.heads.setdefault(connection.household, {}).setdefault(connection, now)

    def head_is_over(self, connection: GuardedProtocol) -> None:
        """It owes none any more."""
        waiting = self.heads.get(connection.household)
        if waiting is not None and waiting.pop(connection, None) is not None and not waiting:
            del self.heads[connection.household]

    def _evict(self, address: str) -> bool:
        """Close the connection of an address that has owed its headers longest; False when none does."""
        waiting = self.heads.get(address)
        if not waiting:
            return False
        oldest = next(iter(waiting))
        oldest.transport.abort()
        oldest.is_over()
        return True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what has taken too long."""
        now, limits = loop.time(), self.limits
        for waiting in list(self.heads.values()):
            for connection in _older(waiting, now - limits.head_seconds):
                connection.refuse(408, "request_too_slow")
        for connection in _older(self.bodies, now - limits.request_seconds):
            connection.refuse(408, "request_too_slow")
        for connection, (since, left) in list(self.answers.items()):
            if now - since > limits.answer_seconds:
                size = connection.transport.get_write_buffer_size()
                if size >= left:
                    connection.transport.abort()
                else:
                    self.answers[connection] = (now, size)
        self.sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop) if self.count else None


def _older(since: dict[GuardedProtocol, float], than: float) -> list[GuardedProtocol]:
    """The first ones, as they are in the order of their instants."""
    found = []
    for connection, began in since.items():
        if began > than:
            break
        found.append(connection)
    return found


class GuardedProtocol(HttpToolsProtocol):
    """A connection, with the bounds of its door."""

    door: Door

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.household = ""
        self.is_counted = False
        self.in_head = True
        self.head_bytes = 0
        self.lines = 0
        self.hosts: list[bytes] = []
        self.fed = 0
        """Bytes since the headers, of which `delivered` are of the body."""
        self.delivered = 0
        self.problem: tuple[int, str] | None = None
        """Why the request is not let in."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = str(self.client[0]) if self.client else ""
        self.household = "" if address in self.door.limits.trusted_proxies else household(address)
        self.is_counted = self.door.enter(self, self.loop)
        if self.is_counted:
            self.door.head_begins(self, self.loop.time())
        else:
            self.refuse(503, "too_many_connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over()
        super().connection_lost(exc)

    def is_over(self) -> None:
        """It counts no more."""
        if self.is_counted:
            self.is_counted = False
            self.door.leave(self)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        while data and self.problem is None and not self.transport.is_closing():
            room = HEAD_BYTES_MAX - self.head_bytes
            piece, data = (data[:room], data[room:]) if self.in_head else (data, b"")
            self._feed(piece)
        if self.problem is not None:
            self.refuse(*self.problem)
        elif not self.transport.is_closing():
            self._wait_for_more()

    def _feed(self, piece: bytes) -> None:
        was_head = self.in_head
        if was_head:
            self.head_bytes += len(piece)
        else:
            self.fed += len(piece)
        super().data_received(piece)
        if was_head and self.in_head and self.head_bytes >= HEAD_BYTES_MAX:
            self.problem = (431, "headers_too_large")
        if self.fed > HEAD_BYTES_MAX + FRAMING_PER_BYTE * self.delivered:
            self.problem = (400, "body_framing_too_large")

    def _wait_for_more(self) -> None:
        """Whatever is not complete yet has a deadline from now on."""
        if not self.in_head:
            self.door.bodies.setdefault(self, self.loop.time())
        elif self.head_bytes:
            self.door.head_begins(self, self.loop.time())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.lines = 0
        self.hosts = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines += 1
        if self.lines > HEAD_LINES_MAX:
            self.problem = (431, "headers_too_large")
            return
        if name.lower() == b"host":
            self.hosts.append(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.head_bytes = self.fed = self.delivered = 0
        self.door.head_is_over(self)
        if self.problem is None:
            self.problem = self._problem_of_host()
        if self.problem is None:
            super().on_headers_complete()

    def _problem_of_host(self) -> tuple[int, str] | None:
        if len(self.hosts) > 1:
            return 400, "several_hosts"
        allowed = self.door.limits.hosts
        if allowed and (not self.hosts or _bare_host(self.hosts[0]) not in allowed):
            return 421, "unknown_host"
        return None

    def on_body(self, body: bytes) -> None:
        self.delivered += len(body)
        if self.problem is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_head = True
        self.head_bytes = self.fed = self.delivered = 0
        self.door.bodies.pop(self, None)
        if self.problem is None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.door.answers[self] = (self.loop.time(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.door.answers.pop(self, None)

    def refuse(self, status: int, code: str) -> None:
        """Answer, if nothing was answered yet, and close the connection."""
        self.is_over()
        if self.transport.is_closing():
            return
        running = self.cycle is not None and not self.cycle.response_complete
        if running and self.cycle.response_started:
            self.transport.abort()
            return
        is_silent = status == 408 and self.in_head and not self.head_bytes
        if not is_silent:
            self.transport.write(_refusal(status, code))
        self.transport.close()


def _bare_host(value: bytes) -> str:
    """The name of a Host header, without its port."""
    text = value.decode("latin-1").strip().lower()
    return text.partition("]")[0].lstrip("[") if text.startswith("[") else text.partition(":")[0]


def _refusal(status: int, code: str) -> bytes:
    body = _encode(error_body(status, in_words(code), code=code))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **STATUS_HEADERS.get(status, {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[status] + lines.encode() + b"\r\n" + body


def guarded(limits: DoorLimits) -> type[GuardedProtocol]:
    """The protocol for a server, with a door of its own."""
    return type("Guarded", (GuardedProtocol,), {"door": Door(limits)})


def raise_open_files() -> int:
    """Let this process open as many files as the system allows it; how many connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 2**31 if soft == resource.RLIM_INFINITY else max(1, soft - OPEN_FILES_KEPT)
