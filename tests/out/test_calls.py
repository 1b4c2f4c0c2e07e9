"""Calls to addresses that users gave: a deadline for all of it, a bounded answer, and never an address inside."""

from __future__ import annotations

import gc
import gzip
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Self

import pytest
from hypothesis import assume, given, strategies as st

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


class Peak:
    """The most memory that the process has while the block runs, in MB above what it had before."""

    def __enter__(self) -> Self:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._mb()
        return self

    def __exit__(self, *_: object) -> None:
        self.added = self._mb() - self.before

    def _mb(self) -> float:
        return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1_024


def pieces(connection: socket.socket, head: bytes, piece: bytes, count: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    for _ in range(count):
        connection.sendall(piece)


CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
BOMB = gzip.compress(bytes(64_000_000)) * 40


@pytest.mark.parametrize(
    ("head", "piece", "count"),
    [
        (b"Transfer-Encoding: chunked\r\n", CHUNK, 24_000),
        (b"Content-Length: 1500000000\r\n", b"x" * 65_536, 24_000),
        (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(BOMB), BOMB, 1),
        (b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n" % (len(BOMB), BOMB), 9),
    ],
    ids=["1,500 MB of chunks", "1,500 MB", "2.5 GB in gzip", "gzip in chunks"],
)
def test_no_answer_takes_memory(
    serve: Callable[[Callable[[socket.socket], None]], Server], head: bytes, piece: bytes, count: int
) -> None:
    """F6."""
    server = serve(lambda connection: pieces(connection, head, piece, count))
    with Peak() as peak:
        answered = call(server.url, bytes_max=4_096)
    assert (answered.status, len(answered.body), answered.is_whole) == (200, 4_096, False)
    assert peak.added < 50


def test_headers_without_end_take_no_memory(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    server = serve(lambda connection: pieces(connection, b"X: ", b"x" * 65_536, 24_000))
    with Peak() as peak, pytest.raises(CallError):
        call(server.url)
    assert peak.added < 50


def test_a_look_up_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(20) and [])
    begun = time.monotonic()
    with pytest.raises(CallError, match=r"No answer within 0\.6 seconds"):
        call("http://hangs.example/", reach=Reach.PUBLIC)
    assert time.monotonic() - begun < SECONDS + 1
    over.set()


def test_no_error_says_what_an_address_inside_has_sent(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    """F15: what listens there may be no web server, and its first words a secret."""
    server = serve(lambda connection: connection.sendall(b"internal-secret-token\r\n\r\n"))
    with pytest.raises(CallError) as refused:
        call(server.url)
    assert str(refused.value) == "RemoteProtocolError at a private address."


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


def test_what_only_announces_an_answer_is_passed_over(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Later: 1\r\n\r\n"
    answered = call(serve(lambda connection: connection.sendall(early + whole)).url)
    assert (answered.status, answered.body) == (200, b"ok")
    assert answered.headers == {"transfer-encoding": "chunked"}


def test_what_nobody_has_asked_for_is_no_answer_to_the_next_call(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    def answer(connection: socket.socket) -> None:
        number = str(len(server.heads)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + number)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")

    server = serve(answer)
    with Client(Reach.LOOPBACK) as client:
        for number in (b"1", b"2", b"3"):
            found = client.call("GET", server.url, headers={}, seconds=SECONDS, bytes_max=10)
            assert (found.status, found.body) == (200, number)
            time.sleep(0.02)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"",
    ],
)
def test_half_an_answer_is_none(
    serve: Callable[[Callable[[socket.socket], None]], Server], answer: bytes
) -> None:
    def end(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    with pytest.raises(CallError, match="RemoteProtocolError"):
        call(serve(end).url)


@pytest.mark.parametrize(("name", "value"), [("X-A", "1\r\nX-B: 2"), ("X-A\nX-B", "1"), ("X", "\0")])
def test_a_header_is_one_line(
    serve: Callable[[Callable[[socket.socket], None]], Server], name: str, value: str
) -> None:
    server = serve(lambda connection: connection.sendall(b"HTTP/1.1 204 OK\r\n\r\n"))
    with Client(Reach.LOOPBACK) as client, pytest.raises(CallError, match="end of a line"):
        client.call("GET", server.url, headers={name: value}, seconds=SECONDS, bytes_max=10)
    assert server.heads == []


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
    connects = socket.create_connection

    def connect(address: tuple[str, int], *args: object, **named: object) -> socket.socket:
        if address[1] != server.port:
            return connects(address, *args, **named)  # type: ignore[arg-type]
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


PRIVATE = [
    ip_network(each)
    for each in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ]
]


@st.composite
def private(draw: st.DrawFn) -> IPv4Address:
    network = draw(st.sampled_from(PRIVATE))
    return IPv4Address(int(network[0]) + draw(st.integers(0, network.num_addresses - 1)))


EMBEDDINGS: dict[str, Callable[[int, int], int]] = {
    "v4-mapped": lambda v4, _: 0xFFFF << 32 | v4,
    "v4-compatible": lambda v4, _: v4,
    "v4-translated": lambda v4, _: 0xFFFF << 48 | v4,
    "NAT64": lambda v4, _: 0x64FF9B << 96 | v4,
    "NAT64 of a site, /96": lambda v4, _: 0x64FF9B0001 << 80 | v4,
    "NAT64 of a site, /48": lambda v4, _: 0x64FF9B0001 << 80 | (v4 >> 16) << 64 | (v4 & 0xFFFF) << 40,
    "6to4": lambda v4, rest: 0x2002 << 112 | v4 << 80 | rest % 2**80,
    "Teredo, server": lambda v4, rest: 0x20010000 << 96 | v4 << 64 | rest % 2**64,
    "Teredo, client": lambda v4, rest: 0x20010000 << 96 | rest % 2**64 << 32 | v4 ^ 0xFFFFFFFF,
    "ISATAP": lambda v4, rest: 0x2606 << 112 | rest % 2**48 << 64 | 0x5EFE << 32 | v4,
    "ISATAP, global": lambda v4, rest: 0x2606 << 112 | rest % 2**48 << 64 | 0x02005EFE << 32 | v4,
}


@pytest.mark.parametrize("embed", EMBEDDINGS.values(), ids=EMBEDDINGS)
@given(v4=private(), rest=st.integers(0, 2**112 - 1))
def test_no_form_that_embeds_a_private_address_is_let_through(
    embed: Callable[[int, int], int], v4: IPv4Address, rest: int
) -> None:
    """F14."""
    assert not is_allowed(str(v4), Reach.PUBLIC)
    assert not is_allowed(str(IPv6Address(embed(int(v4), rest))), Reach.PUBLIC)


@given(
    st.sampled_from(["ff00::/8", "fe80::/10", "fec0::/10", "fc00::/7", "::/16", "4000::/2", "8000::/1"]),
    st.integers(0, 2**128 - 1),
)
def test_no_address_outside_of_global_unicast_is_let_through(network: str, number: int) -> None:
    """Multicast, link-local, site-local, unique local, and what nobody has been given."""
    base = ip_network(network)
    address = IPv6Address(int(base[0]) + number % base.num_addresses)
    public = ip_network("64:ff9b::/96"), ip_network("::ffff:0:0/96")
    assume(not any(address in each for each in public))
    assert not is_allowed(str(address), Reach.PUBLIC)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "localhost",
        "①②⑦.①",
    ],
)
def test_no_spelling_of_a_private_address_is_let_through(host: str) -> None:
    with pytest.raises(CallError, match=r"no public address|not found|InvalidURL"):
        call(f"http://{host}/", reach=Reach.PUBLIC)


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
