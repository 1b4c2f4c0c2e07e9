"""Mails to customers."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, Id, Input, instant_of, one_of, says
from permille.core.mail import RECIPIENTS_MAX, SMTP_PORT, MailKind, MailSecurity, MailStatus

Addresses = Annotated[
    list[str],
    says(f"Mail addresses, at most {RECIPIENTS_MAX} of all three kinds.", example=["pay@example.com"]),
]


class Mail(Answer):
    """A mail that is to be sent, or was."""

    lago_id: Id
    kind: Annotated[str, one_of(*MailKind, says="What it is about.")]
    to: Annotated[list[str], says("Who gets it.")]
    cc: Annotated[list[str], says("Who gets a copy.")]
    bcc: Annotated[list[str], says("Who gets a copy that the others don't see.")]
    status: Annotated[str, one_of(*MailStatus, says="What has become of it.")]
    created_at: Annotated[str, instant_of("When it was queued.")]


Host = Annotated[str, says("Name of the server.", example="smtp.example.com")]
Security = Annotated[
    str, one_of(*MailSecurity, says="How the connection is encrypted; none only without a user.")
]
MailFrom = Annotated[str, says("Address that mail comes from.", example="billing@example.com")]


class MailServer(Answer):
    """A mail server that an organization's mail goes through. Its password is never shown."""

    host: Host
    port: Annotated[int, says("Its port.")]
    security: Security
    user: Annotated[str | None, says("Who signs in to it; null: nobody does.")]
    has_password: Annotated[bool, says("Whether a password is kept.")]
    mail_from: MailFrom
    reply_to: Annotated[str | None, says("Where answers go; null: to the email of the billing entity.")]


class MailServerInput(Input):
    """A mail server to use."""

    host: Host
    port: Annotated[int, says(f"Its port; by default {SMTP_PORT}.")]
    security: Security
    user: Annotated[str, says("Who signs in to it.")]
    password: Annotated[
        str, says("Its password. Without one, the one before stays for the same host and user.")
    ]
    mail_from: MailFrom
    reply_to: Annotated[str, says("Where answers go.")]
