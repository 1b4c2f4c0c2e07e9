"""Mails to customers."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, Id, instant_of, one_of, says
from permille.core.mail import RECIPIENTS_MAX, MailKind, MailStatus

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
