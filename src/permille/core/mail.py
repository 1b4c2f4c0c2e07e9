"""Mail to customers: what may be sent, to whom, and when it is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class MailKind(StrEnum):
    """What a mail is about."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"
    PAYMENT_RECEIPT = "payment_receipt"
    PAYMENT_REQUEST = "payment_request"
    """Made by hand, or by a dunning campaign."""
    TEST = "test"
    """To see whether the mail server takes any; its object is the organization."""


class MailStatus(StrEnum):
    """What has become of a mail."""

    WAITING = "waiting"
    SENT = "sent"
    """The mail server has taken it."""
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    """Not sent, since the organization is in test mode and nobody of it is on the list of test recipients."""
    UNKNOWN = "unknown"
    """The worker or the connection ended while the mail server was taking it: it is not sent twice unasked."""


class MailSecurity(StrEnum):
    """How the connection to a mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    """From the first byte on."""
    NONE = "none"


SMTP_PORT = 587


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A mail server, and how to send through it. The password is never shown."""

    host: str
    port: int
    security: MailSecurity
    user: str | None
    password: str | None = field(default=None, repr=False)
    mail_from: str
    reply_to: str | None = None
    """None: the billing entity's email."""


AUTOMATIC = {
    MailKind.INVOICE: "invoice.finalized",
    MailKind.CREDIT_NOTE: "credit_note.created",
    MailKind.PAYMENT_RECEIPT: "payment_receipt.created",
}
"""Kind -> the email setting of a billing entity that sends it without being asked. The others are always sent."""
EMAIL_SETTINGS = tuple(AUTOMATIC.values())
RECIPIENTS_MAX = 20
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240, 720))
"""After the first attempt, the second, ...: a mail that fails after all of them has failed."""
EXPIRES_AFTER = timedelta(days=3)
"""A mail that nothing could be done about for so long is not sent any more."""


def pause_after(attempts: int) -> timedelta | None:
    """How long to wait after so many attempts that failed for now; None: no more."""
    return PAUSES[attempts - 1] if attempts <= len(PAUSES) else None


def address(text: str) -> str | None:
    """The address as mail servers take it, None for what is none. It is not looked up."""
    from email_validator import EmailNotValidError, validate_email

    try:
        return validate_email(text.strip(), check_deliverability=False).ascii_email
    except EmailNotValidError:
        return None


def are_addresses(text: str) -> bool:
    """Whether it is an address, or several with commas between them. Nobody need be reachable there: `a@b.test` is one."""
    return all(_is_address(each.strip()) for each in text.split(","))


def _is_address(text: str) -> bool:
    domain = text.rpartition("@")[2]
    # Behind another ending, domains for tests and for one's own network are as good as others.
    return "." in domain and address(f"{text}.example") is not None


def addresses(text: str | None) -> list[str]:
    """The valid ones of the addresses in a customer's email, which may have several with commas between them."""
    found = [address(each) for each in (text or "").split(",")]
    return list(dict.fromkeys(each for each in found if each))


def allowed_in_test_mode(recipients: Iterable[str], allowed: Sequence[str]) -> list[str]:
    """Those on the list, which names addresses and domains (`@example.com`)."""
    known = {each.strip().lower() for each in allowed if each.strip()}
    return [
        each for each in recipients if each.lower() in known or "@" + each.lower().partition("@")[2] in known
    ]
