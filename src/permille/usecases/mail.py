"""Mail to customers: what is sent without being asked, and what somebody sends again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.clock import system_now
from permille.core.errors import Invalid, NotFound
from permille.core.mail import AUTOMATIC, MailKind, addresses
from permille.store import mails
from permille.store.mails import NewMail


def mail_invoices(
    conn: Connection[Any], organization_id: UUID, invoice_ids: Collection[UUID], *, now: datetime
) -> None:
    """Queue mails with invoices that have become final, to customers with an email, where the billing entity sends them.

    Invoices for nothing are not sent. Set-based.
    """
    setting = AUTOMATIC[MailKind.INVOICE]
    if not invoice_ids or not mails.wants_automatic(conn, organization_id, setting):
        return
    found = [
        NewMail(kind=MailKind.INVOICE, object_id=invoice_id, recipients=recipients)
        for invoice_id, email in mails.invoices_to_mail(conn, invoice_ids, setting)
        if (recipients := addresses(email))
    ]
    mails.add(conn, organization_id, found, now=now, system_now=system_now())


def send(
    conn: Connection[Any],
    organization_id: UUID,
    kind: MailKind,
    object_id: UUID,
    *,
    customers_email: str | None,
    to: Sequence[str],
    cc: Sequence[str],
    bcc: Sequence[str],
    now: datetime,
) -> UUID:
    """Queue a mail because somebody asks for it. Without recipients the customer gets it; raises Invalid when that has no email."""
    recipients = to or addresses(customers_email)
    if not recipients:
        raise Invalid({"to": ["customer_has_no_email"]})
    new = NewMail(kind=kind, object_id=object_id, recipients=recipients, cc=cc, bcc=bcc)
    (mail_id,) = mails.add(conn, organization_id, [new], now=now, system_now=system_now())
    return mail_id


def send_again(conn: Connection[Any], organization_id: UUID, mail_id: UUID) -> None:
    """Send a mail once more. Raises NotFound for one that is waiting, or not there."""
    if not mails.repeat(conn, organization_id, mail_id, system_now=system_now()):
        raise NotFound("mail")
