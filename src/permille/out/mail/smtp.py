"""One mail over SMTP, in three steps, so that it is known whether a server may have it."""

from __future__ import annotations

import contextlib
import email.policy
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from io import BufferedReader
from typing import Any, NoReturn

from permille.core.mail import MailSecurity, MailServer
from permille.out.addresses import RefusedError, addresses_of
from permille.out.mail.servers import Route

HELLO_TIMEOUT_SHARE = 0.5
"""A server that says nothing has this share of the whole time, so that the rest of an attempt has some, too."""
GOODBYE_SECONDS = 2.0
ANSWER_BYTES_MAX = 65_536
"""An answer has as many lines as its server wants."""


class RefusedForNow(Exception):  # noqa: N818 -- what went wrong is the name
    """The mail can be sent later: no connection, a full mailbox, greylisting."""


class RefusedForGood(Exception):  # noqa: N818
    """The mail server will never take it."""


class NoConnection(RefusedForNow):
    """The server can't be used as it is: no mail can be sent through it for a while."""


class Connection:
    """To a mail server. An attempt takes no longer than the route allows."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._smtp: smtplib.SMTP | None = None
        self._plug: socket.socket | None = None
        """The connection itself, also while it is encrypted."""
        self._is_cut = False

    def open(self) -> None:
        """Connect, encrypt and sign in. Raises NoConnection: settings may be wrong, and be mended."""
        server = self._route.server
        try:
            self._smtp = self._connected()
            if server.security is MailSecurity.STARTTLS:
                self._smtp.starttls(context=ssl.create_default_context())
            if server.user:
                self._smtp.login(server.user, server.password or "")
            self._smtp.ehlo_or_helo_if_needed()
        except smtplib.SMTPResponseException as error:
            raise NoConnection(_said(error.smtp_code, error.smtp_error)) from error
        except RefusedError as error:
            raise NoConnection(str(error)) from error
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise NoConnection(f"{type(error).__name__}: {error}") from error

    def address(self, sender: str, recipients: Sequence[str]) -> list[str]:
        """Say from whom to whom; those that were refused, where others were not. Raises RefusedForNow and RefusedForGood."""
        smtp = self._open_smtp()
        with _as_refusal():
            _expect(smtp.mail(sender))
            answers = {each: smtp.rcpt(each) for each in recipients}
        refused = [each for each, (code, _) in answers.items() if code not in (250, 251)]
        if len(refused) == len(answers):
            _raise(*answers[refused[0]])
        return refused

    def hand_over(self, message: EmailMessage) -> str:
        """Send the mail itself; what the server said. Raises RefusedForNow and RefusedForGood, and OSError when nobody knows."""
        smtp = self._open_smtp()
        try:
            code, text = smtp.data(message.as_bytes(policy=email.policy.SMTP))
        except smtplib.SMTPDataError as error:
            _raise(error.smtp_code, error.smtp_error)
        except smtplib.SMTPServerDisconnected as error:
            raise ConnectionError(str(error)) from error
        if 400 <= code < 600:
            _raise(code, text)
        if code != 250:
            raise ConnectionError(f"The mail server answered what is no answer: {_said(code, text)}")
        return _said(code, text)

    def close(self) -> None:
        """Say good-bye, if anybody listens."""
        if self._smtp is not None:
            with within(self, GOODBYE_SECONDS), contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.quit()
            self._smtp.close()
            self._smtp = None
        if self._plug is not None:
            self._plug.close()

    def cut(self) -> None:
        """End what is under way, the greeting and the encrypting too: it raises OSError in the thread that is at it."""
        self._is_cut = True
        if self._plug is not None:
            with contextlib.suppress(OSError):
                self._plug.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> smtplib.SMTP:
        """Each address is checked, and it is one of these that is connected to."""
        server, timeout = self._route.server, self._route.seconds * HELLO_TIMEOUT_SHARE

        def wait(ended: threading.Event) -> None:
            if not ended.wait(timeout):
                raise TimeoutError(f"{server.host} was not found in time.")

        addresses = addresses_of(server.host, server.port, self._route.reach, wait)

        def connect(port: int, timeout: float) -> socket.socket:
            found = _first_connected(addresses, port, timeout)
            self._plug = found.dup()
            if self._is_cut:
                self.cut()
            return found

        if server.security is MailSecurity.TLS:
            return _SmtpOverTls(server, connect, timeout)
        return _Smtp(server, connect, timeout)

    def _open_smtp(self) -> smtplib.SMTP:
        assert self._smtp is not None
        return self._smtp


@contextlib.contextmanager
def within(connection: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection after a while, whatever its server does."""
    timer = threading.Timer(seconds, connection.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_Connect = Callable[[int, float], socket.socket]
"""A connection to the port of an address that was looked up before, in so many seconds."""


class _Answers:
    """What a server says, a line at a time. One answer may not be endless."""

    def __init__(self, lines: BufferedReader) -> None:
        self._lines = lines
        self.left = 0

    def readline(self, most: int) -> bytes:
        """Raises OSError."""
        line = self._lines.readline(most)
        self.left -= len(line)
        if self.left < 0:
            raise ConnectionError("The mail server's answer has no end.")
        if line and len(line) < most and not line.endswith(b"\n"):
            raise ConnectionError("The connection ended in the middle of an answer.")
        return line

    def close(self) -> None:
        self._lines.close()


class _Smtp(smtplib.SMTP):
    """Connects by a function of ours, and reads answers that are bounded."""

    file: Any

    def __init__(self, server: MailServer, connect: _Connect, timeout: float) -> None:
        self._connect = connect
        super().__init__(server.host, server.port, timeout=timeout)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None:
            assert self.sock is not None, "it is connected"
            self.file = _Answers(self.sock.makefile("rb"))
        self.file.left = ANSWER_BYTES_MAX
        return super().getreply()

    def _get_socket(self, _host: str, port: int, timeout: float) -> socket.socket:
        return self._connect(port, timeout)


class _SmtpOverTls(_Smtp):
    """The same, encrypted from the first byte on; the certificate is that of the name."""

    default_port = smtplib.SMTP_SSL_PORT

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return ssl.create_default_context().wrap_socket(
            super()._get_socket(host, port, timeout), server_hostname=host
        )


def _first_connected(addresses: Sequence[str], port: int, timeout: float) -> socket.socket:
    """A connection to the first address that takes one, within the time that all have together."""
    *others, last = addresses
    until = time.monotonic() + timeout
    for address in others:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), max(until - time.monotonic(), 0.1) / 2)
    return socket.create_connection((last, port), max(until - time.monotonic(), 0.1))


@contextlib.contextmanager
def _as_refusal() -> Iterator[None]:
    """What smtplib raises as one of our two refusals."""
    try:
        yield
    except smtplib.SMTPResponseException as error:
        _raise(error.smtp_code, error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        raise RefusedForNow(f"{type(error).__name__}: {error}") from error


def _expect(answer: tuple[int, bytes]) -> None:
    code, text = answer
    if code != 250:
        _raise(code, text)


def _raise(code: int, text: bytes | str) -> NoReturn:
    raise (RefusedForGood if 500 <= code < 600 else RefusedForNow)(_said(code, text))


def _said(code: int, text: bytes | str) -> str:
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {said}".replace("\0", "")
