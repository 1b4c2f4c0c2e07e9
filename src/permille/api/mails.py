"""Mails to customers: sent because somebody asks for it."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import mail as objects
from permille.api.render import instant
from permille.api.validation import INVALID, OUT_OF_RANGE, Fields, parse_uuid
from permille.core.errors import NotAllowed
from permille.core.invoice.draft import InvoiceStatus
from permille.core.mail import RECIPIENTS_MAX, MailKind, address
from permille.store import customers, mails
from permille.store.mails import Mail
from permille.usecases import mail as usecase
from permille.usecases.invoices import single


def read_recipients(fields: Fields) -> dict[str, list[str]]:
    """`to`, `cc` and `bcc`. Raises Invalid where one is no address."""
    found = {name: _addresses(fields, name) for name in ("to", "cc", "bcc")}
    if sum(map(len, found.values())) > RECIPIENTS_MAX:
        fields.refuse("to", OUT_OF_RANGE)
    fields.check()
    return found


def _addresses(fields: Fields, name: str) -> list[str]:
    read = [address(text) for text in fields.texts(name) or []]
    if None in read:
        fields.refuse(name, INVALID)
    return [each for each in read if each]


def resend_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/resend_email. Raises NotAllowed for an invoice that is not final."""
    invoice = single.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    if invoice.status != InvoiceStatus.FINALIZED:
        raise NotAllowed("invoice_not_finalized")
    recipients = read_recipients(Fields(call.body if isinstance(call.body, dict) else {}))
    payer = customers.by_ids(call.conn, [invoice.customer_id])[invoice.customer_id]
    mail_id = usecase.send(
        call.conn,
        call.organization.id,
        MailKind.INVOICE,
        invoice.id,
        customers_email=payer.email,
        **recipients,
        now=call.now,
    )
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
