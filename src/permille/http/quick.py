"""Usual requests answered in the protocol: without headers read again, a scope or a task for each.

A client that keeps its connection sends the same head over and over. What a head says is read once, the ordinary way; a
request is usual where each byte of its head is as before, but for the digits of its body's length and for what traces and names
single requests. Whatever is not usual, and whatever would be refused, goes the ordinary way from its first byte.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextvars import Context
from typing import Any, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from permille import request_ids
from permille.core.record import Record
from permille.http.bodies import BodyShare
from permille.http.door import Door, DoorLimits, GuardedProtocol
from permille.http.refusals import STATUS_HEADERS
from permille.http.requests import JSON_HEAD, Requests
from permille.telemetry import Seen

HEAD_MAX = 4_096
BODY_MAX = 65_536
HEADS_REMEMBERED = 10_000
HEADS_BYTES = 8 * 1024**2
_BEGINNING = b"POST /api/v1/events"
_END = b"\r\n\r\n"
_LENGTHS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
_DIGITS_MAX = len(str(BODY_MAX))
_OF_ONE_REQUEST = frozenset(
    (
        b"traceparent",
        b"tracestate",
        b"x-request-id",
        b"x-amzn-trace-id",
        b"x-cloud-trace-context",
        b"idempotency-key",
    )
)
"""Headers whose values, where they are visible ASCII, are another each time, and mean nothing but a request's id."""
_VALUES = re.compile(rb"\r\n(" + b"|".join(sorted(_OF_ONE_REQUEST)) + rb"): [!-~]+(?=\r\n|\Z)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:([^\r\n]*)", re.IGNORECASE)
_NEEDS_MORE = frozenset((b"expect", b"transfer-encoding", b"content-encoding", b"upgrade", b"te", b"trailer"))
"""Headers of requests that are never usual."""

Headers = Sequence[tuple[bytes, bytes]]


class Desk(Protocol):
    """Answers usual requests."""

    def recognize(self, path: str, headers: Headers) -> Any | None:
        """What all requests with such a head have in common, None where they are none of its."""

    def room(self, kind: Any, size: int) -> BodyShare | None:
        """Memory for a body that is still coming in; None where there is none, or the sender is not known."""

    def take(self, kind: Any, body: bytes, asker: QuickProtocol) -> bool:
        """Whether the request is going to have its answer: later, by one call of `asker.answer`. Otherwise nothing was done."""


class UsualHead(Record, kw_only=True):
    """What a head says. `kind` is the desk's."""

    path: str
    kind: Any
    brings_id: bool
    """Whether a request with it may bring an id of its own."""


class FoundRequest(Record):
    """A request at the beginning of what came in; `begins` and `ends` are the places of its body, which may not be there yet."""

    key: bytes
    begins: int
    ends: int


class ShortWay:
    """What the connections of a process share: the desk, and the heads that are known."""

    def __init__(self, desk: Desk, requests: Requests) -> None:
        self.desk = desk
        self.requests = requests
        self._heads: dict[bytes, UsualHead] = {}
        self._bytes = 0
        self._defaults: Headers = ()
        self._lines: dict[int, bytes] = {}

    def lines(self, status: int, defaults: Headers) -> bytes:
        """The first lines of an answer in JSON; `defaults` is another list each second."""
        if defaults is not self._defaults:
            self._defaults, self._lines = defaults, {}
        found = self._lines.get(status)
        if found is None:
            more = [(name.encode(), value.encode()) for name, value in STATUS_HEADERS.get(status, {}).items()]
            said = b"".join(b"%s: %s\r\n" % each for each in (*defaults, *more))
            found = self._lines[status] = STATUS_LINE[status] + said + JSON_HEAD
        return found

    def head(self, key: bytes) -> UsualHead | None:
        """What a head says, None while that is not known."""
        return self._heads.get(key) or self._heads.get(_VALUES.sub(rb"\r\n\1: ", key))

    def learn(self, key: bytes, headers: Headers) -> None:
        """Remember a head that was read the ordinary way, if it is usual."""
        key = _VALUES.sub(rb"\r\n\1: ", key)
        lines = key.split(b"\r\n")
        words = lines[0].split(b" ")
        if len(words) != 3 or words[2] != b"HTTP/1.1" or b"?" in words[1] or b"%" in words[1]:
            return
        if not _are_plain(lines[1:], headers):
            return
        path = words[1].decode("latin-1")
        kind = self.desk.recognize(path, headers)
        if kind is None:
            return
        self._bytes += len(key)
        if len(self._heads) >= HEADS_REMEMBERED or self._bytes > HEADS_BYTES:
            self._heads, self._bytes = {}, len(key)
        brings_id = any(name == request_ids.HEADER for name, _ in headers)
        self._heads[key] = UsualHead(path=path, kind=kind, brings_id=brings_id)


def find_request(data: bytes) -> FoundRequest | None:
    """The request that the data begin with, if its head is there and is like a usual one's."""
    end = data.find(_END, 0, HEAD_MAX)
    if end < 0:
        return None
    at = data.find(_LENGTHS[0], 0, end)
    if at < 0:
        at = data.find(_LENGTHS[1], 0, end)
        if at < 0:
            return None
    begins = at + len(_LENGTHS[0])
    stop = data.find(b"\r\n", begins)
    digits = data[begins:stop]
    if not digits.isdigit() or len(digits) > _DIGITS_MAX or digits[0] == 48:
        return None
    length = int(digits)
    if length > BODY_MAX:
        return None
    return FoundRequest(data[:begins] + data[stop:end], end + 4, end + 4 + length)


def _id_in(data: bytes, found: FoundRequest) -> str | None:
    """The id that a request brings. Of several the last one holds."""
    given = _REQUEST_ID.findall(data, 0, found.begins - 2)
    return request_ids.well_formed(given[-1].strip(b" \t")) if given else None


def _are_plain(lines: Sequence[bytes], headers: Headers) -> bool:
    """Whether these lines, of which one is the length without its digits, are the headers and say nothing unusual."""
    if len(lines) != len(headers):
        return False
    for line, (name, value) in zip(lines, headers, strict=True):
        own, _, said = line.partition(b":")
        if own.lower() != name or b"\n" in line or b"\r" in line or name in _NEEDS_MORE:
            return False
        if name == b"content-length" or (name in _OF_ONE_REQUEST and said == b" "):
            continue  # its value was cut out
        if said.strip(b" \t") != value or (name == b"connection" and value.lower() != b"keep-alive"):
            return False
    return True


class QuickProtocol(GuardedProtocol):
    """A connection on which usual requests are answered at once; one at a time, the next is looked at after that."""

    short_way: ClassVar[ShortWay | None] = None
    """None while all requests go the ordinary way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_between = True
        """Whether the parser has seen whole requests only."""
        self.is_odd = False
        """Whether the parser may be in a state of its own."""
        self.candidate: bytes | None = None
        """The head that the parser reads now, if it may be usual."""
        self.coming = bytearray()
        """What is there of a usual request whose body is still coming in, and its memory."""
        self.coming_ends = 0
        self.share: BodyShare | None = None
        self.asked: UsualHead | None = None
        """The request that waits for its answer."""
        self.name = ""
        """Its id."""
        self.began = 0.0
        self.behind = b""
        """What came after it."""
        self.is_last = False
        """Whether the connection ends with its answer."""

    def data_received(self, data: bytes) -> None:
        if self.asked is not None:
            self.behind += data
            self.flow.pause_reading()
            return
        if self.coming:
            self._more(data)
        elif not (
            self.is_between and data.startswith(_BEGINNING) and self._is_free() and self._is_taken(data)
        ):
            self.door.idle.pop(self, None)
            super().data_received(data)

    def _is_free(self) -> bool:
        """Whether the next request may be usual, as no other is under way and answers are taken in."""
        if self.short_way is None or self.is_odd or self.is_refused or self.problem is not None:
            return False
        cycle = self.cycle
        if (cycle is not None and not cycle.response_complete) or self.pipeline or self.flow.write_paused:
            return False
        return not self.transport.is_closing()

    def _is_taken(self, data: bytes) -> bool:
        """Whether these bytes, the first of a request, are taken care of."""
        short_way, found = self.short_way, find_request(data)
        if short_way is None or found is None:
            return False
        head = short_way.head(found.key)
        if head is None:
            self.candidate = found.key
            return False
        if len(data) >= found.ends:
            return self._ask(short_way.desk, head, data, found)
        share = short_way.desk.room(head.kind, found.ends - found.begins)
        if share is None:
            return False
        self._unset_keepalive_if_required()
        self.door.idle.pop(self, None)
        self.door.head_is_over(self)
        self.door.bodies.setdefault(self, self.loop.time())
        self.coming, self.coming_ends, self.share = bytearray(data), found.ends, share
        return True

    def _more(self, data: bytes) -> None:
        """More of a body."""
        self.coming += data
        if len(self.coming) >= self.coming_ends:
            data = self._come()
            self.door.bodies.pop(self, None)
            if not (self._is_free() and self._is_taken(data)):
                super().data_received(data)

    def _come(self) -> bytes:
        """All that came of a request, which is held no more."""
        data, self.coming = bytes(self.coming), bytearray()
        if self.share is not None:
            self.share.give_back()
            self.share = None
        return data

    def _let_go(self) -> None:
        """A request whose body is not there yet goes the ordinary way. Its deadline is as before."""
        if self.coming:
            self._feed(self._come())

    def _ask(self, desk: Desk, head: UsualHead, data: bytes, found: FoundRequest) -> bool:
        self.began = time.perf_counter()
        self.name = (_id_in(data, found) if head.brings_id else None) or request_ids.new()
        self.asked = head
        if not desk.take(head.kind, data[found.begins : found.ends], self):
            self.asked = None
            return False
        self._unset_keepalive_if_required()
        self.door.idle.pop(self, None)
        self.door.head_is_over(self)
        if len(data) > found.ends:
            self.behind = data[found.ends :]
            self.flow.pause_reading()
        return True

    def answer(self, status: int, body: bytes, seen: Seen) -> None:
        """Answer the request that was asked, and go on with what came behind it."""
        head, short_way = self.asked, self.short_way
        assert head is not None, "a request is answered once"
        assert short_way is not None, "it was asked there"
        self.asked = None
        if not self.transport.is_closing():
            begins = short_way.lines(status, self.server_state.default_headers)
            last = b"connection: close\r\n" if self.is_last else b""
            self.transport.write(
                b"%s%sx-request-id: %s\r\ncontent-length: %d\r\n\r\n%s"
                % (begins, last, self.name.encode(), len(body), body)
            )
            self.server_state.total_requests += 1
            if self.is_last:
                self.transport.close()
            else:
                self.door.idle[self] = self.loop.time()
        seconds = time.perf_counter() - self.began
        short_way.requests.note_quick(head.path, status, seconds, seen, self.name)
        if self.behind:
            data, self.behind = self.behind, b""
            self.flow.resume_reading()
            Context().run(self.data_received, data)  # it is another request

    def on_message_begin(self) -> None:
        self.is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        headers = self.headers
        key, self.candidate = self.candidate, None
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.is_odd = True
        if (
            key is not None
            and self.short_way is not None
            and self.is_let_in
            and self.parser.should_keep_alive()
        ):
            self.short_way.learn(key, headers)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.is_between = True

    def refuse(self, status: int, code: str) -> None:
        self._let_go()
        super().refuse(status, code)

    def shutdown(self) -> None:
        if self.asked is not None:
            self.is_last = True
            return
        self._let_go()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        self.behind = b""
        super().connection_lost(exc)


def quick(limits: DoorLimits) -> type[QuickProtocol]:
    """The protocol for a server, with a door of its own; its `short_way` is opened when there is somebody to answer."""
    return type("Quick", (QuickProtocol,), {"door": Door(limits)})
