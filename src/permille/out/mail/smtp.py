"""One mail over SMTP, in three steps, so that it is known whether a server may have it."""

from __future__ import annotations

import contextlib
import email.policy
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from email.message import EmailMessage

from permille.core.mail import MailSecurity, MailServer
from permille.out.addresses import RefusedError, addresses_of
from permille.out.mail.servers import Route

HELLO_TIMEOUT_SHARE = 0.5
"""A server that says nothing has this share of the whole time, so that the rest of an attempt has some, too."""


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
        except (OSError, smtplib.SMTPException) as error:
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
        if code != 250:
            _raise(code, text)
        return _said(code, text)

    def close(self) -> None:
        """Say good-bye, if anybody listens."""
        if self._smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.quit()
            self._smtp.close()
            self._smtp = None

    def cut(self) -> None:
        """End what is under way: it raises OSError in the thread that is at it."""
        found = self._smtp.sock if self._smtp is not None else None
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> smtplib.SMTP:
        """Each address is checked, and it is one of these that is connected to."""
        server, timeout = self._route.server, self._route.seconds * HELLO_TIMEOUT_SHARE

        def wait(ended: threading.Event) -> None:
            if not ended.wait(timeout):
                raise TimeoutError(f"{server.host} was not found in time.")

        addresses = addresses_of(server.host, server.port, self._route.reach, wait)
        if server.security is MailSecurity.TLS:
            return _SmtpOverTls(server, addresses, timeout)
        return _Smtp(server, addresses, timeout)

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


class _Smtp(smtplib.SMTP):
    """Connects to addresses that were looked up before."""

    def __init__(self, server: MailServer, addresses: Sequence[str], timeout: float) -> None:
        self._addresses = addresses
        super().__init__(server.host, server.port, timeout=timeout)

    def _get_socket(self, _host: str, port: int, timeout: float) -> socket.socket:
        return _first_connected(self._addresses, port, timeout)


class _SmtpOverTls(smtplib.SMTP_SSL):
    """Connects to addresses that were looked up before; the certificate is that of the name."""

    def __init__(self, server: MailServer, addresses: Sequence[str], timeout: float) -> None:
        self._addresses, self._name, self._tls = addresses, server.host, ssl.create_default_context()
        super().__init__(server.host, server.port, timeout=timeout, context=self._tls)

    def _get_socket(self, _host: str, port: int, timeout: float) -> socket.socket:
        found = _first_connected(self._addresses, port, timeout)
        return self._tls.wrap_socket(found, server_hostname=self._name)


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


def _raise(code: int, text: bytes | str) -> None:
    raise (RefusedForGood if 500 <= code < 600 else RefusedForNow)(_said(code, text))


def _said(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
