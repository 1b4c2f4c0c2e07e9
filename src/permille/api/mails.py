"""Mails to customers: sent because somebody asks for it."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import mail as objects
from permille.api.render import instant
from permille.api.validation import INVALID, OUT_OF_RANGE, Fields, parse_uuid
from permille.core.mail import RECIPIENTS_MAX, MailKind, address
from permille.store import mails
from permille.store.mails import Mail
from permille.usecases import mail as usecase


def read_recipients(fields: Fields) -> dict[str, list[str]]:
    """`to`, `cc` and `bcc`. Raises Invalid where one is no address."""
    found = {name: read_addresses(fields, name) for name in ("to", "cc", "bcc")}
    if sum(map(len, found.values())) > RECIPIENTS_MAX:
        fields.refuse("to", OUT_OF_RANGE)
    fields.check()
    return found


def read_addresses(fields: Fields, name: str) -> list[str]:
    """A list of mail addresses, at most as many as a mail may have; refused where one is none."""
    read = [address(text) for text in fields.texts(name) or []]
    if None in read:
        fields.refuse(name, INVALID)
    if len(read) > RECIPIENTS_MAX:
        fields.refuse(name, OUT_OF_RANGE)
    return [each for each in read if each]


def resend_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/resend_email."""
    return _resend(call, MailKind.INVOICE)


def resend_credit_note(call: Call) -> dict[str, Any]:
    """POST /credit_notes/{lago_id}/resend_email."""
    return _resend(call, MailKind.CREDIT_NOTE)


def resend_receipt(call: Call) -> dict[str, Any]:
    """POST /payment_receipts/{lago_id}/resend_email."""
    return _resend(call, MailKind.PAYMENT_RECEIPT)


def resend_request(call: Call) -> dict[str, Any]:
    """POST /payment_requests/{lago_id}/resend_email."""
    return _resend(call, MailKind.PAYMENT_REQUEST)


def _resend(call: Call, kind: MailKind) -> dict[str, Any]:
    subject = usecase.subject_to_send(call.conn, call.organization.id, kind, parse_uuid(call.path["lago_id"]))
    recipients = read_recipients(Fields(call.body if isinstance(call.body, dict) else {}))
    mail_id = usecase.send(call.conn, call.organization.id, kind, subject, **recipients, now=call.now)
    return {"mail": render_mail(mails.by_ids(call.conn, call.organization.id, [mail_id])[mail_id])}


def render_mail(mail: Mail) -> objects.Mail:
    return objects.Mail(
        lago_id=mail.id,
        kind=mail.kind,
        to=mail.recipients,
        cc=mail.cc,
        bcc=mail.bcc,
        status=mail.status,
        created_at=instant(mail.created_at),
    )
