"""One mail over SMTP, in three steps, so that it is known whether a server may have it."""

from __future__ import annotations

import contextlib
import email.policy
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from email.message import EmailMessage

from permille.config import Config

HELLO_TIMEOUT_SHARE = 0.5
"""A server that says nothing has this share of the whole time, so that the rest of an attempt has some, too."""


class RefusedForNow(Exception):  # noqa: N818 -- what went wrong is the name
    """The mail can be sent later: no connection, a full mailbox, greylisting."""


class RefusedForGood(Exception):  # noqa: N818
    """The mail server will never take it."""


class Connection:
    """To the mail server of the installation. An attempt takes no longer than the configured time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._smtp: smtplib.SMTP | None = None

    def open(self) -> None:
        """Connect, encrypt and sign in. Raises RefusedForNow: settings may be wrong, and be mended."""
        with _as_refusal(is_setting_up=True):
            self._smtp = self._connected()
            if self._config.smtp_security == "starttls":
                self._smtp.starttls(context=ssl.create_default_context())
            if self._config.smtp_user:
                self._smtp.login(self._config.smtp_user, self._config.smtp_password or "")
            self._smtp.ehlo_or_helo_if_needed()

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
        config = self._config
        assert config.smtp_host is not None
        timeout = config.smtp_timeout_seconds * HELLO_TIMEOUT_SHARE
        if config.smtp_security == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(config.smtp_host, config.smtp_port, timeout=timeout, context=context)
        return smtplib.SMTP(config.smtp_host, config.smtp_port, timeout=timeout)

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


@contextlib.contextmanager
def _as_refusal(*, is_setting_up: bool = False) -> Iterator[None]:
    """What smtplib raises as one of our two refusals. While it is being set up, everything can be mended."""
    try:
        yield
    except smtplib.SMTPResponseException as error:
        if is_setting_up:
            raise RefusedForNow(_said(error.smtp_code, error.smtp_error)) from error
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
