"""A mail server that an organization chose does its worst: an attempt has its deadline, and no answer takes memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from permille.core.mail import MailSecurity, MailServer
from permille.out.addresses import Reach
from permille.out.mail import smtp
from permille.out.mail.servers import Route
from permille.out.mail.smtp import Connection, RefusedForGood, RefusedForNow, within
from tests.out.test_calls import Peak, drip

SECONDS = 0.8


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall((b"250-" + b"a" * 4_000 + b"\r\n") * 20)


def dripping(connection: socket.socket) -> None:
    drip(connection, b"250 ", b"x")


def handshake(connection: socket.socket) -> None:
    drip(connection, b"\x16\x03\x03\x40\x00", b"\x00")


def until(command: bytes, worst: Callable[[socket.socket], None], said: bytes = b"") -> Callable[..., None]:
    """A server as they are, until it gets that command."""

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            connection.sendall(b"220 here\r\n")
            while line := lines.readline():
                if line.upper().startswith(command):
                    connection.sendall(said)
                    worst(connection)
                    return
                if line.startswith(b"ehlo"):
                    connection.sendall(b"250-here\r\n250 STARTTLS\r\n")
                elif line.startswith(b"data"):
                    connection.sendall(b"354 go on\r\n")
                    while lines.readline() != b".\r\n":
                        continue
                    connection.sendall(b"250 taken\r\n")
                else:
                    connection.sendall(b"250 OK\r\n")

    return serve


def attempt(serve: Callable[[socket.socket], None], security: MailSecurity) -> str:
    """What comes of a mail that is handed to such a server."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            try:
                serve(connection)
            except OSError:
                return

    threading.Thread(target=answer, daemon=True).start()
    server = MailServer(
        host="127.0.0.1",
        port=listening.getsockname()[1],
        security=security,
        user=None,
        password=None,
        mail_from="us@acme.example",
    )
    connection = Connection(Route(server=server, reach=Reach.LOOPBACK, seconds=SECONDS))
    message = EmailMessage()
    message.set_content("Hello")
    try:
        with within(connection, SECONDS):
            connection.open()
            connection.address(server.mail_from, ["you@customer.example"])
            return connection.hand_over(message)
    except (RefusedForNow, RefusedForGood, OSError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
        listening.close()


@pytest.mark.parametrize(
    ("serve", "security", "outcome"),
    [
        (dripping, MailSecurity.NONE, "NoConnection"),
        (endless, MailSecurity.NONE, "NoConnection"),
        (handshake, MailSecurity.TLS, "NoConnection"),
        (until(b"EHLO", dripping), MailSecurity.NONE, "NoConnection"),
        (until(b"EHLO", endless), MailSecurity.NONE, "NoConnection"),
        (until(b"STARTTLS", handshake, b"220 go on\r\n"), MailSecurity.STARTTLS, "NoConnection"),
        (until(b"RCPT", endless), MailSecurity.NONE, "RefusedForNow"),
        (until(b"DATA", endless), MailSecurity.NONE, "ConnectionError"),
        (until(b"QUIT", dripping), MailSecurity.NONE, "250 taken"),
        (until(b"QUIT", endless), MailSecurity.NONE, "250 taken"),
    ],
    ids=[
        "greeting drips",
        "greeting without end",
        "TLS drips",
        "hello drips",
        "hello without end",
        "STARTTLS drips",
        "recipient without end",
        "text without end",
        "good-bye drips",
        "good-bye without end",
    ],
)
def test_an_attempt_ends_at_its_deadline_and_takes_no_memory(
    serve: Callable[[socket.socket], None],
    security: MailSecurity,
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp, "GOODBYE_SECONDS", SECONDS)
    found: list[str] = []
    with Peak() as peak:
        thread = threading.Thread(target=lambda: found.append(attempt(serve, security)), daemon=True)
        thread.start()
        thread.join(2 * SECONDS + 3)
    assert [each.partition(":")[0] for each in found] == [outcome], "it ends"
    assert peak.added < 50


def answers(text: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(text)


def test_what_a_server_says_can_be_kept() -> None:
    refuses = until(b"RCPT", answers(b"550 no\0body\r\n"))
    assert attempt(refuses, MailSecurity.NONE) == "RefusedForGood: 550 nobody"


@pytest.mark.parametrize("said", [b"", b"25", b"354 go on\r\n99 taken\r\n", b"354 go on\r\n25"])
def test_nobody_knows_whether_a_mail_was_taken_that_got_no_answer(said: bytes) -> None:
    """So that it isn't sent again."""
    assert attempt(until(b"DATA", answers(said)), MailSecurity.NONE).startswith("ConnectionError")
