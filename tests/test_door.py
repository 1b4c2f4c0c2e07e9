"""The door, with real sockets: what a stranger may send, hold and keep waiting."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.requests import ClientDisconnect

from permille.config import Networks
from permille.http import door
from permille.http.door import (
    HEAD_BYTES_MAX,
    PIPELINED_MAX,
    UNREAD_BYTES_MAX,
    DoorLimits,
    guarded,
)
from permille.http.requests import AT_ONCE, Requests

HASTY: dict[str, Any] = {"head_seconds": 0.6, "request_seconds": 1.2, "answer_seconds": 1.0}
"""For what must be given up: it is, at some time. What must pass has all the time that a busy machine takes."""
PATIENCE_SECONDS = 60
SHORT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body to its end and says how long it was; /long has a long answer."""
    size, more = 0, scope["path"] != "/early"
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            if scope["path"] == "/body":
                raise ClientDisconnect
            return
        size += len(message["body"])
        more = message["more_body"]
    names = b" ".join(name for name, _ in scope["headers"])
    if scope["path"] == "/at-once" and scope[AT_ONCE](200, b'{"size":%d}' % size):
        return
    headers = [(b"x-size", b"%d" % size), (b"x-names", names)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(2_000 if scope["path"] == "/long" else 0):
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def served(**limits: Any) -> Iterator[int]:
    """The port of a server with this door."""
    config = uvicorn.Config(
        Requests(application),
        port=0,
        loop="uvloop",
        http=guarded(DoorLimits(**limits)),
        lifespan="off",
        log_level="error",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(head_seconds=PATIENCE_SECONDS, request_seconds=PATIENCE_SECONDS) as found:
        yield found


@pytest.fixture(scope="module")
def hasty() -> Iterator[int]:
    """A server that gives up soon."""
    with served(**HASTY) as found:
        yield found


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS, source_address=(source, 0))


def answer(sock: socket.socket) -> bytes:
    """All that comes until the server closes the connection, or nothing more comes."""
    found = b""
    try:
        while piece := sock.recv(65_536):
            found += piece
            if found.endswith((b"ok", b"0\r\n\r\n")):
                break
    except ConnectionError:
        pass
    return found


def asked(port: int, *pieces: bytes, source: str = "127.0.0.1") -> bytes:
    with connected(port, source) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
        except ConnectionError:
            pass
        return answer(sock)


def status(found: bytes) -> int:
    return int(found.split(b" ", 2)[1]) if found else 0


def test_usual_requests_pass_alone_in_pieces_and_in_a_row(port: int) -> None:
    assert status(asked(port, SHORT)) == 200
    assert status(asked(port, *(SHORT[n : n + 1] for n in range(len(SHORT))))) == 200
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"b" * 200_000
    assert b"x-size: 200000" in asked(port, post)
    with connected(port) as sock:
        for _ in range(3):
            sock.sendall(SHORT)
            assert status(answer(sock)) == 200
        sock.sendall(SHORT * 5)
        found = b""
        while found.count(b"HTTP/1.1 200") < 5:
            found += sock.recv(65_536)


def test_small_chunks_pass(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"x-size: 50000" in asked(port, head, b"1\r\nx\r\n" * 50_000, b"0\r\n\r\n")


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000_000,
        b"GET /" + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1_000_000,
    ],
    ids=["value", "address", "lines"],
)
def test_endless_headers_are_refused_at_once(port: int, endless: bytes) -> None:
    began = time.monotonic()
    assert status(asked(port, endless)) in (431, 0)
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert status(asked(port, SHORT)) == 200


def test_headers_a_little_too_large_get_431_and_those_that_fit_do_not(port: int) -> None:
    def with_header(size: int) -> bytes:
        return b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * size + b"\r\n\r\n"

    assert status(asked(port, with_header(HEAD_BYTES_MAX - 100))) == 200
    assert status(asked(port, with_header(HEAD_BYTES_MAX))) == 431
    lines = [b"GET / HTTP/1.1", b"Host: a", *(b"X: a" for _ in range(99)), b"", b""]
    assert status(asked(port, b"\r\n".join(lines))) == 200
    assert status(asked(port, b"\r\n".join([*lines[:3], *lines[2:]]))) == 431


@pytest.mark.parametrize("lines", ["gzip, chunked", "identity, chunked"])
def test_a_packed_body_is_not_taken_for_a_plain_one(port: int, lines: str) -> None:
    head = f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {lines}\r\n\r\n".encode()
    refused = asked(port, head + b"1\r\nx\r\n0\r\n\r\n")
    assert status(refused) == 501
    assert b'"code":"unknown_transfer_encoding"' in refused


def test_endless_trailers_and_extensions_of_chunks_are_refused(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    for endless in (
        b"0\r\nX: " + b"a" * 5_000_000,
        b"1;" + b"a" * 5_000_000,
        b"0\r\n" + b"X: a\r\n" * 200_000,
    ):
        assert status(asked(port, head, endless)) in (400, 431, 0)


def test_a_slow_head_and_a_slow_body_get_408(hasty: int) -> None:
    began = time.monotonic()
    with connected(hasty) as silent, connected(hasty) as head, connected(hasty) as body:
        head.sendall(b"GET / HTTP/1.1\r\nX: ")
        body.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        for _ in range(8):
            time.sleep(0.1)
            for sock in (head, body):
                with suppress(ConnectionError):
                    sock.sendall(b"a" if sock is head else b"")
        assert answer(silent) == b""
        assert status(answer(head)) in (408, 0)
        assert status(answer(body)) == 408
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_empty_lines_do_not_keep_a_connection(hasty: int) -> None:
    with connected(hasty) as sock:
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < PATIENCE_SECONDS:
                sock.sendall(b"\r\n")
                time.sleep(0.1)
        assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_who_takes_in_no_answer_is_let_go(hasty: int) -> None:
    with connected(hasty) as sock:
        sock.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(3)
        assert len(answer(sock)) < 100_000_000


def test_one_address_has_its_connections_and_the_slowest_make_room() -> None:
    with served(connections_of_address=10, head_seconds=60) as port, ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(30)]
        time.sleep(0.2)
        assert status(asked(port, SHORT)) == 200, "the one that waited longest made room"
        assert status(asked(port, SHORT, source="127.0.0.2")) == 200
        for sock in silent[:20]:
            assert answer(sock) == b""


def test_where_all_are_busy_one_more_gets_503() -> None:
    with served(connections_of_address=5) as port, ExitStack() as stack:
        for _ in range(5):
            sock = stack.enter_context(connected(port))
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        end = time.monotonic() + PATIENCE_SECONDS
        while status(found := asked(port, SHORT)) != 503:
            assert time.monotonic() < end, "the server has met all of them by then"
        assert b"retry-after: 1" in found
        assert status(asked(port, SHORT, source="127.0.0.2")) == 200


def test_a_trusted_proxy_has_as_many_connections_as_it_likes() -> None:
    with (
        served(connections_of_address=5, trusted_proxies=Networks("127.0.0.1")) as port,
        ExitStack() as stack,
    ):
        for _ in range(20):
            stack.enter_context(connected(port)).sendall(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"
            )
        time.sleep(0.2)
        assert status(asked(port, SHORT)) == 200


def test_hosts(port: int) -> None:
    assert status(asked(port, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")) == 400
    with served(hosts=frozenset({"a.test", "::1"})) as strict:
        for host, expected in (("a.test", 200), ("A.test:8080", 200), ("[::1]:80", 200), ("evil.test", 421)):
            assert status(asked(strict, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())) == expected, host
        assert status(asked(strict, b"GET / HTTP/1.1\r\n\r\n")) == 421


def test_trailers_are_no_headers(port: int) -> None:
    head = b"POST /trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    assert b"x-names: host transfer-encoding\r\n" in asked(port, head, b"0\r\nAuthorization: b\r\n\r\n")


def test_a_client_that_is_refused_can_read_why(port: int) -> None:
    """Also one that goes on sending for a while."""
    with connected(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000)
        time.sleep(0.3)
        with suppress(ConnectionError):
            for _ in range(10):
                sock.sendall(b"a" * 10_000)
                time.sleep(0.02)
        found = answer(sock)
    assert status(found) == 431
    assert b"cache-control: no-store" in found
    assert b"x-content-type-options: nosniff" in found
    assert status(asked(port, b"nonsense\r\n\r\n")) == 400


def test_pipelined_requests_have_a_number_and_their_order(port: int) -> None:
    for behind in (SHORT * 200, b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000):
        with connected(port) as sock:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + behind)
            found = b""
            while piece := sock.recv(65_536):
                found += piece
        assert found.startswith(b"HTTP/1.1 200")
        assert found.count(b"HTTP/1.1 200") == (PIPELINED_MAX + 1 if behind.startswith(SHORT) else 1)


def test_what_comes_after_an_early_answer_is_thrown_away(port: int) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    with connected(port) as sock:
        sock.sendall(head % 900_000 + b"x" * 900_000)
        assert status(answer(sock)) == 200
        sock.sendall(SHORT)
        assert status(answer(sock)) == 200
    with connected(port) as sock:
        sock.sendall(head % (10 * UNREAD_BYTES_MAX))
        assert status(answer(sock)) == 200
        with pytest.raises(ConnectionError):
            sock.sendall(b"x" * (9 * UNREAD_BYTES_MAX))


def test_a_probe_needs_no_name() -> None:
    with served(hosts=frozenset({"a.test"})) as port:
        assert status(asked(port, b"GET /health/ready?x=1 HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n")) == 200
        assert status(asked(port, b"GET /healthy HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n")) == 421


def test_strangers_cannot_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither with nonsense, nor with upgrades, nor by going away: it is counted, and said now and then."""
    monkeypatch.setattr(door, "SAID_SECONDS", 0.5)
    began, others = time.monotonic(), {each.ident for each in threading.enumerate()}

    def said() -> list[str]:
        """What the server of this test says; another one may still have to say what it refused before."""
        records = [each for each in caplog.records if not each.name.startswith(("asyncio", "uvicorn"))]
        return [each.getMessage() for each in records if each.thread not in others]

    def counted() -> int:
        return sum(int(each) for each in re.findall(r"(\d+) x 400 not_http", " ".join(said())))

    with served() as port, caplog.at_level(logging.INFO):
        for _ in range(20):
            asked(port, b"nonsense\r\n\r\n")
            asked(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            with connected(port) as sock:
                sock.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        sent = time.monotonic()
        while counted() < 20 and time.monotonic() < sent + PATIENCE_SECONDS:
            time.sleep(0.1)
        time.sleep(0.6)  # for one more that would be too many
    assert counted() == 20
    assert len(said()) <= 3 + (time.monotonic() - began) / 0.5
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_trailers_after_a_long_body_have_an_end_too(port: int) -> None:
    """Pieces of 64 kB, of which each old one would be put together with all before it."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(port) as sock:
        sock.sendall(head + b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n0\r\nX: ")
        with suppress(ConnectionError):
            sock.sendall(b"a" * 400_000)
        assert status(answer(sock)) == 400


def test_an_answer_at_once_is_whole_safe_and_in_its_turn(port: int) -> None:
    posted = b"POST /at-once HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-%d\r\nContent-Length: %d\r\n\r\n%s"
    with connected(port) as sock:
        sock.sendall(b"".join(posted % (n, n, b"x" * n) for n in (7, 8)) + SHORT)
        found = answer(sock)
    first, second, last = (b"HTTP/1.1 200" + part for part in found.split(b"HTTP/1.1 200")[1:])
    for text, n in ((first, 7), (second, 8)):
        head, _, body = text.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert body == b'{"size":%d}' % n
        assert {b"content-type: application/json", b"cache-control: no-store"} <= set(lines)
        assert {b"x-content-type-options: nosniff", b"x-request-id: mine-%d" % n} <= set(lines)
        assert lines.count(b"content-length: 10") == 1
        assert any(line.startswith(b"date: ") for line in lines)
    assert b"x-size: 0" in last


@pytest.mark.parametrize("line", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
def test_a_connection_that_ends_with_its_answer_is_answered_as_ever(port: int, line: bytes) -> None:
    found = asked(port, b"GET /at-once " + line + b"Host: a\r\n\r\n")
    assert b"x-size: 0" in found
    assert b"connection: close" in found.lower()
