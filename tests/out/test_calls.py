"""Calls to addresses that users gave: a deadline for all of it, a bounded answer, and never an address inside."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from permille.out.addresses import Reach, is_allowed
from permille.out.calls import Answer, CallError, Client

SECONDS = 0.6


class Server:
    """A server on a bare socket: each connection is given to `answer` once the request's head has come."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self.answer = answer
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.heads: list[bytes] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while head := self._head(connection):
                    self.heads.append(head)
                    self.answer(connection)
            except OSError:
                return

    def _head(self, connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := connection.recv(1)):
                return b""
            head += piece
        return head


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[socket.socket], None]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.socket.close()


def call(
    url: str, *, reach: Reach = Reach.LOOPBACK, content: bytes | None = None, bytes_max: int = 1_000
) -> Answer:
    with Client(reach) as client:
        return client.call(
            "POST", url, headers={"X-Test": "1"}, content=content, seconds=SECONDS, bytes_max=bytes_max
        )


def drip(connection: socket.socket, begin: bytes, drop: bytes) -> None:
    connection.sendall(begin)
    for _ in range(100):
        time.sleep(0.1)
        connection.sendall(drop)


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b""),
    ],
    ids=["body", "a header", "headers", "100 Continue", "chunks", "nothing"],
)
def test_a_call_ends_at_its_deadline_whatever_drips(
    serve: Callable[[Callable[[socket.socket], None]], Server], begin: bytes, drop: bytes
) -> None:
    server = serve(lambda connection: drip(connection, begin, drop))
    begun = time.monotonic()
    with pytest.raises(CallError, match=r"No answer within 0\.6 seconds"):
        call(server.url)
    assert time.monotonic() - begun < SECONDS + 1


def test_a_tls_handshake_that_drips_ends_at_the_deadline() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                drip(connection, b"\x16\x03\x03\x40\x00", b"\x00")
            except OSError:
                return

    threading.Thread(target=answer, daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(CallError):
        call(f"https://127.0.0.1:{server.getsockname()[1]}/")
    assert time.monotonic() - begun < SECONDS + 1
    server.close()


def test_a_receiver_that_does_not_read_ends_at_the_deadline() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    begun = time.monotonic()
    with pytest.raises(CallError, match="No answer within"):
        call(f"http://127.0.0.1:{server.getsockname()[1]}/", content=b"x" * 50_000_000)
    assert time.monotonic() - begun < SECONDS + 1
    server.close()


def test_an_endless_body_is_read_up_to_its_bound(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    sent = 0

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent += connection.send(b"x" * 65_536)

    answered = call(serve(answer).url)
    assert (answered.status, answered.body, answered.is_whole) == (200, b"x" * 1_000, False)
    assert sent < 20_000_000  # what the sockets' buffers hold


def test_a_packed_body_stays_packed(serve: Callable[[Callable[[socket.socket], None]], Server]) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)

    def answer(connection: socket.socket) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        connection.sendall(head.encode() + bomb)

    server = serve(answer)
    answered = call(server.url, bytes_max=100_000)
    assert (answered.body, answered.headers["content-encoding"]) == (bomb, "gzip")
    assert b"accept-encoding: identity" in server.heads[0].lower()


def test_a_redirect_is_an_answer(serve: Callable[[Callable[[socket.socket], None]], Server]) -> None:
    server = serve(
        lambda connection: connection.sendall(b"HTTP/1.1 307 No\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")
    )
    assert (call(server.url).status, len(server.heads)) == (307, 1)


def test_the_connection_is_kept_for_the_next_call(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    server = serve(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    with Client(Reach.LOOPBACK) as client:
        for _ in range(3):
            client.call("GET", server.url, headers={}, seconds=SECONDS, bytes_max=10)
    assert (server.connections, len(server.heads)) == (1, 3)


def test_host_and_credentials_come_from_the_url(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    server = serve(lambda connection: connection.sendall(b"HTTP/1.1 204 OK\r\n\r\n"))
    call(f"http://me:secret@localhost:{server.port}/a%20b?c=d")
    lines = server.heads[0].lower().decode().splitlines()
    assert lines[0] == "post /a%20b?c=d http/1.1"
    assert f"host: localhost:{server.port}" in lines
    assert "authorization: basic bwu6c2vjcmv0" in lines


def test_the_address_that_was_checked_is_connected_to(
    serve: Callable[[Callable[[socket.socket], None]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is a public address for the check, and a private one from then on."""
    server = serve(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\ninside"))
    look_up, answers = socket.getaddrinfo, ["192.0.2.1"]

    def rebinding(host: str | None, *args: object, **named: object) -> object:
        if host == "rebind.example":
            host = "8.8.8.8" if answers and answers.pop() else "127.0.0.1"
        return look_up(host, *args, **named)  # type: ignore[arg-type]

    connected: list[str] = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(CallError):
        call(f"http://rebind.example:{server.port}/", reach=Reach.PUBLIC)
    assert connected == ["8.8.8.8"]
    with pytest.raises(CallError, match=r"rebind\.example is 127\.0\.0\.1, which is no public address"):
        call(f"http://rebind.example:{server.port}/", reach=Reach.PUBLIC)
    assert (connected, server.heads) == (["8.8.8.8"], [])


def test_the_next_address_of_a_name_is_tried(
    serve: Callable[[Callable[[socket.socket], None]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda connection: connection.sendall(b"HTTP/1.1 204 OK\r\n\r\n"))
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, server.port))
        for each in ("127.0.0.9", "127.0.0.1")
    ]
    monkeypatch.setattr(
        "permille.out.addresses.socket.getaddrinfo",
        lambda host, *_, **__: [f for f in found if host in ("two.example", f[4][0])],
    )
    assert call(f"http://two.example:{server.port}/").status == 204


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///x", "ftp://127.0.0.1/", "nonsense", "http://127.0.0.1:99999/", "http://no.invalid/"],
)
def test_what_is_no_address_is_an_error_that_says_so(url: str) -> None:
    with pytest.raises(CallError):
        call(url, reach=Reach.ANYWHERE)


INSIDE = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0.0.0.0",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "100::1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "64:ff9b:1::808:808",
    "2002:a00:1::",
    "2002:808:808::",
    "2001::1",
    "2001:db8::1",
    "2001:20::1",
    "3fff::1",
    "5f00::1",
]
LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
OUTSIDE = ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_refused_in_every_form(address: str) -> None:
    assert not is_allowed(address, Reach.PUBLIC)
    assert not is_allowed(address, Reach.LOOPBACK)
    assert is_allowed(address, Reach.ANYWHERE)


@pytest.mark.parametrize("address", [*LOOPBACK, "::127.0.0.1", "2002:7f00:1::"])
def test_loopback_is_for_those_who_may(address: str) -> None:
    assert not is_allowed(address, Reach.PUBLIC)
    assert is_allowed(address, Reach.LOOPBACK) == (address in LOOPBACK)


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_are_let_through(address: str) -> None:
    assert is_allowed(address, Reach.PUBLIC)
