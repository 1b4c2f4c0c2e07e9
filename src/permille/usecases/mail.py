"""Mail to customers: what is sent without being asked, and what somebody sends again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.clock import system_now
from permille.core.errors import Invalid, NotAllowed, NotFound
from permille.core.mail import AUTOMATIC, RECIPIENTS_MAX, MailKind, MailServer, address, addresses
from permille.store import mail_servers, mail_subjects, mails
from permille.store.mail_subjects import MailSubject
from permille.store.mails import NewMail


def mail_new(
    conn: Connection[Any],
    organization_id: UUID,
    kind: MailKind,
    ids: Collection[UUID],
    *,
    bcc: Sequence[str] = (),
    now: datetime,
) -> None:
    """Queue mails with objects that are new, to customers with an email, where the billing entity sends them.

    Invoices for nothing are not sent. Set-based.
    """
    setting = AUTOMATIC.get(kind)
    if not ids or (setting and not mails.wants_automatic(conn, organization_id, setting)):
        return
    found = mail_subjects.by_ids(conn, organization_id, kind, ids)
    new = [
        NewMail(kind=kind, object_id=each.id, recipients=recipients, bcc=bcc)
        for each in (found[object_id] for object_id in ids if object_id in found)
        if each.may_be_sent and each.is_worth_sending
        if setting is None or setting in each.email_settings
        if (recipients := addresses(each.email)[:RECIPIENTS_MAX])
    ]
    mails.add(conn, organization_id, new, now=now, system_now=system_now())


def subject_to_send(
    conn: Connection[Any], organization_id: UUID, kind: MailKind, object_id: UUID | None
) -> MailSubject:
    """What somebody wants to send. Raises NotFound, and NotAllowed for an invoice that is not final."""
    found = mail_subjects.by_ids(conn, organization_id, kind, [object_id] if object_id else [])
    if object_id not in found:
        raise NotFound(kind.value)
    if not found[object_id].may_be_sent:
        raise NotAllowed(f"{kind.value}_not_finalized")
    return found[object_id]


def send(
    conn: Connection[Any],
    organization_id: UUID,
    kind: MailKind,
    subject: MailSubject,
    *,
    to: Sequence[str],
    cc: Sequence[str],
    bcc: Sequence[str],
    now: datetime,
) -> UUID:
    """Queue a mail because somebody asks for it. Without recipients the customer gets it; raises Invalid when that has no email."""
    recipients = to or addresses(subject.email)[:RECIPIENTS_MAX]
    if not recipients:
        raise Invalid({"to": ["customer_has_no_email"]})
    new = NewMail(kind=kind, object_id=subject.id, recipients=recipients, cc=cc, bcc=bcc)
    (mail_id,) = mails.add(conn, organization_id, [new], now=now, system_now=system_now())
    return mail_id


def send_test(conn: Connection[Any], organization_id: UUID, recipient: str, *, now: datetime) -> None:
    """Queue a mail that shows whether mail arrives. Raises Invalid for what is no address."""
    to = address(recipient)
    if to is None:
        raise Invalid({"to": ["value_is_invalid"]})
    new = NewMail(kind=MailKind.TEST, object_id=organization_id, recipients=[to])
    mails.add(conn, organization_id, [new], now=now, system_now=system_now())


def set_server(conn: Connection[Any], organization_id: UUID, server: MailServer, *, now: datetime) -> None:
    """Send the organization's mail through this server, also what waits."""
    mail_servers.save(conn, organization_id, server, now=now)
    mails.retry_waiting(conn, organization_id, now=system_now())


def remove_server(conn: Connection[Any], organization_id: UUID) -> None:
    """Send the organization's mail through the installation's server again. Raises NotFound where it has none of its own."""
    if not mail_servers.delete(conn, organization_id):
        raise NotFound("mail_server")
    mails.retry_waiting(conn, organization_id, now=system_now())


def send_again(conn: Connection[Any], organization_id: UUID, mail_id: UUID) -> None:
    """Send a mail once more. Raises NotFound for one that is waiting, or not there."""
    if not mails.repeat(conn, organization_id, mail_id, system_now=system_now()):
        raise NotFound("mail")
