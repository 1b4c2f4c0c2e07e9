"""The door: what a connection may send and hold before anybody has looked at its request.

uvicorn's protocol with bounds: bytes, lines and time for headers, time for a whole request and for taking in its
answer, connections of everybody and of one address. Refusals are answers in the shape of the API's, where one can still
be given. All of it is on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections import Counter
from functools import partial
from typing import Any, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from permille.config import NO_NETWORKS, Networks
from permille.core.record import Record
from permille.http.clients import household
from permille.http.refusals import STATUS_HEADERS, error_body
from permille.http.requests import ANSWER_HEADERS, AT_ONCE
from permille.http.words import in_words

log = logging.getLogger(__name__)
_quiet = logging.getLogger(f"{__name__}.parser")
_quiet.setLevel(logging.ERROR)  # uvicorn warns of each request that is no HTTP

HEAD_BYTES_MAX = 64 * 1024
HEAD_LINES_MAX = 100
PIPELINED_MAX = 32
"""Requests of a connection that wait for the answer of an earlier one."""
UNREAD_BYTES_MAX = 16 * 1024 * 1024
"""What may come of a body after its answer."""
LINGER_SECONDS = 2.0
"""How long a refused client is left to read why."""
SAID_SECONDS = 10.0
"""The log says at most so often what was refused."""
PROBES = (b"/health", b"/health/live", b"/health/ready")
"""Load balancers ask for these by address, whatever the allowed names."""
SWEEP_SECONDS = 0.5
OPEN_FILES_KEPT = 256
"""Open files that are not connections: the database's, the log's."""

_encode = msgspec.json.Encoder().encode


class DoorLimits(Record, kw_only=True):
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
        self.idle: dict[GuardedProtocol, float] = {}
        """Those that owe nothing since their last answer, as far as uvicorn has no timer for them."""
        self.sweeping: asyncio.TimerHandle | None = None
        self.refused: Counter[str] = Counter()
        self.said_at = 0.0

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
        self.idle.pop(connection, None)

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
        if self.idle:
            keep_alive = next(iter(self.idle)).timeout_keep_alive
            for connection in _older(self.idle, now - keep_alive):
                connection.timeout_keep_alive_handler()
        for connection, (since, left) in list(self.answers.items()):
            if now - since > limits.answer_seconds:
                size = connection.transport.get_write_buffer_size()
                if size >= left:
                    connection.transport.abort()
                else:
                    self.answers[connection] = (now, size)
        if self.refused and now - self.said_at > SAID_SECONDS:
            self.said_at = now
            said = ", ".join(f"{number} x {what}" for what, number in sorted(self.refused.items()))
            self.refused.clear()
            log.warning("Refused at the door: %s", said)
        self.sweeping = (
            loop.call_later(SWEEP_SECONDS, self._sweep, loop) if self.count or self.refused else None
        )


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
        self.logger = _quiet
        self.household = ""
        self.is_counted = False
        self.in_head = True
        self.head_bytes = 0
        self.framing_bytes = 0
        """What came since the last piece of a body: lengths of chunks, extensions, trailers."""
        self.unread = 0
        self.problem: tuple[int, str] | None = None
        """Why the request is not let in."""
        self.is_let_in = False
        """Whether the last request that began is: then `cycle` is its own."""
        self.is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = str(self.client[0]) if self.client else ""
        self.household = "" if address in self.door.limits.trusted_proxies else household(address)
        self.is_counted = self.door.enter(self, self.loop)
        if self.is_counted:
            self.door.head_begins(self, self.loop.time())
        else:
            self.door.refused["503 too_many_connections"] += 1
            self.transport.write(_refusal(503, "too_many_connections"))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over()
        super().connection_lost(exc)

    def is_over(self) -> None:
        """It counts no more."""
        if self.is_counted:
            self.is_counted = False
            self.door.leave(self)

    def data_received(self, data: bytes) -> None:
        if self.is_refused or self.transport.is_closing():
            return
        while data and self.problem is None and not self.transport.is_closing():
            room = HEAD_BYTES_MAX - self.head_bytes
            if self.in_head and len(data) > room:
                piece, data = data[:room], data[room:]
            else:
                piece, data = data, b""
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
            self.framing_bytes += len(piece)
        super().data_received(piece)
        if was_head and self.in_head and self.head_bytes >= HEAD_BYTES_MAX:
            self.problem = (431, "headers_too_large")
        if self.framing_bytes > HEAD_BYTES_MAX:
            self.problem = (400, "body_framing_too_large")

    def _wait_for_more(self) -> None:
        """Whatever is not complete yet has a deadline from now on."""
        if not self.in_head:
            self.door.bodies.setdefault(self, self.loop.time())
        elif self.head_bytes:
            self.door.head_begins(self, self.loop.time())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.is_let_in = False
        self.unread = 0

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.head_bytes = self.framing_bytes = 0
        self.door.head_is_over(self)
        if self.problem is None and len(self.headers) > HEAD_LINES_MAX:
            self.problem = (431, "headers_too_large")
        if self.problem is None:
            self.problem = self._problem_of_host() or self._problem_of_coding()
        if self.problem is None and len(self.pipeline) >= PIPELINED_MAX:
            self.problem = (429, "too_many_requests")
        if self.problem is None:
            super().on_headers_complete()
            cast("dict[str, Any]", self.scope)[AT_ONCE] = partial(_write_at_once, self.cycle)
            self.is_let_in = True
            self.headers = []  # for trailers: they are no headers of the request

    def _problem_of_host(self) -> tuple[int, str] | None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1:
            return 400, "several_hosts"
        allowed = self.door.limits.hosts
        if allowed and (not hosts or _bare_host(hosts[0]) not in allowed):
            is_probe = self.url.partition(b"?")[0] in PROBES
            return None if is_probe else (421, "unknown_host")
        return None

    def _problem_of_coding(self) -> tuple[int, str] | None:
        """A body is never unpacked here: RFC 9112 section 6.1."""
        codings = b",".join(value for name, value in self.headers if name == b"transfer-encoding")
        is_known = not codings or codings.strip().lower() == b"chunked"
        return None if is_known else (501, "unknown_transfer_encoding")

    def on_body(self, body: bytes) -> None:
        self.framing_bytes = 0
        if self.problem is None:
            super().on_body(body)
        if self.is_let_in and self.cycle.response_complete:
            self.unread += len(body)
            if self.unread > UNREAD_BYTES_MAX:
                self.transport.abort()

    def on_message_complete(self) -> None:
        if self.problem is None:
            super().on_message_complete()
        self.in_head, self.is_let_in = True, False
        self.head_bytes = self.framing_bytes = 0
        self.door.bodies.pop(self, None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.door.answers[self] = (self.loop.time(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.door.answers.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for what is no HTTP."""
        del msg
        self.problem = self.problem or (400, "not_http")

    def refuse(self, status: int, code: str) -> None:
        """Answer, if nothing was answered yet, and close the connection."""
        if self.is_refused or self.transport.is_closing():
            return
        self.is_refused = True
        self.door.bodies.pop(self, None)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not self.is_let_in:
            cycle.keep_alive = False  # those before it are answered first
            return
        if status == 408 and self.in_head and not self.head_bytes:
            self.transport.close()
            return
        self.door.refused[f"{status} {code}"] += 1
        if cycle is not None and self.is_let_in:
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(_refusal(status, code))
        self.transport.write_eof()
        self.flow.resume_reading()
        self.door.head_begins(self, self.loop.time())  # it makes room for others
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def _write_at_once(cycle: RequestResponseCycle, status: int, head: bytes, body: bytes) -> bool:
    """Write a whole answer; False where it has to be sent piece by piece. `head` are lines of headers that are ours.

    uvicorn looks through every header of every answer, and writes twice: a fifth of what an event costs the server.
    """
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    lines = [STATUS_LINE[status]]
    for name, value in cycle.default_headers:
        lines += (name, b": ", value, b"\r\n")
    lines += (head, b"content-length: %d\r\n\r\n" % len(body), body)
    cycle.transport.write(b"".join(lines))
    cycle.message_event.set()
    cycle.on_response()
    return True


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
        **{name.decode(): value.decode() for name, value in ANSWER_HEADERS},
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
