"""Mail to customers: what was sent and what came of it; sent, and sent again, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.mails import read_recipients
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import NotFound
from permille.core.mail import MailKind, MailStatus
from permille.core.record import Record
from permille.out.mail.servers import route_of
from permille.store import mail_subjects, mails
from permille.store.mail_subjects import MailSubject
from permille.store.mails import Mail
from permille.usecases import mail as usecase
from permille.web import credit_notes, invoices, payments
from permille.web.visit import Done, HtmlPage, Visit

PLACES = {
    MailKind.INVOICE: ("Invoice", "/app/invoices/{}"),
    MailKind.CREDIT_NOTE: ("Credit note", "/app/credit-notes/{}"),
    MailKind.PAYMENT_RECEIPT: ("Receipt", "/app/receipts/{}/pdf"),
    MailKind.PAYMENT_REQUEST: ("Payment request", "/app/payments#requests"),
}
"""What each kind is called, and where its object is."""


class ShownMail(Record, kw_only=True):
    """A mail with what it is about."""

    mail: Mail
    subject: MailSubject | None
    """None for a test."""
    title: str
    place: str


def shown(conn: Connection[Any], organization_id: UUID, rows: Sequence[Mail]) -> list[ShownMail]:
    """Mails with what they are about, but for those whose object is no more."""
    subjects: dict[UUID, MailSubject] = {}
    for kind in {row.kind for row in rows}:
        ids = {row.object_id for row in rows if row.kind == kind}
        subjects |= mail_subjects.by_ids(conn, organization_id, MailKind(kind), ids)
    found = []
    for row in rows:
        if row.kind == MailKind.TEST:
            found.append(ShownMail(mail=row, subject=None, title="Test", place="/app/mail"))
        elif row.object_id in subjects:
            subject, (name, place) = subjects[row.object_id], PLACES[MailKind(row.kind)]
            title = f"{name} {subject.number}" if subject.number else name
            found.append(ShownMail(mail=row, subject=subject, title=title, place=place.format(subject.id)))
    return found


def listing(visit: Visit) -> HtmlPage:
    """GET /app/mail."""
    page = visit.page()
    wanted = visit.query.get("status", "")
    rows, total = mails.listing(
        visit.conn,
        visit.here.id,
        status=wanted if wanted in list(MailStatus) else None,
        limit=page.per_page,
        offset=page.offset,
    )
    context = {
        "mails": shown(visit.conn, visit.here.id, rows),
        "meta": page.meta(total),
        "status_wanted": wanted,
        "statuses": list(MailStatus),
        "route": route_of(visit.conn, visit.engine.config, visit.here.id),
        "test_recipients": visit.engine.config.mail_test_recipients,
    }
    return HtmlPage(template="mails.html", context=context)


def send(visit: Visit) -> Done:
    """POST /app/send-by-mail/{kind}/{lago_id}: to the addresses in the form, else to the customer."""
    if visit.path["kind"] not in PLACES:
        raise NotFound("mail")
    kind = MailKind(visit.path["kind"])
    subject = usecase.subject_to_send(visit.conn, visit.here.id, kind, parse_uuid(visit.path["lago_id"]))
    to = [each.strip() for each in visit.form.get("to").split(",") if each.strip()]
    recipients = read_recipients(Fields({"to": to}))
    usecase.send(visit.conn, visit.here.id, kind, subject, **recipients, now=visit.now)
    name, _ = PLACES[kind]
    return Done(
        action=f"sent {name.lower()} by mail",
        subject=subject.number or subject.external_customer_id,
        to="/app/mail?said=mailed",
    )


def sent_from(visit: Visit) -> HtmlPage:
    """The page that has the button to send it."""
    pages = {MailKind.INVOICE: invoices.detail, MailKind.CREDIT_NOTE: credit_notes.detail}
    return pages.get(MailKind(visit.path["kind"]), payments.listing)(visit)


def send_again(visit: Visit) -> Done:
    """POST /app/mails/{mail_id}/send-again."""
    mail_id = parse_uuid(visit.path["mail_id"])
    if mail_id is None:
        raise NotFound("mail")
    usecase.send_again(visit.conn, visit.here.id, mail_id)
    return Done(action="sent mail again", subject=str(mail_id), to="/app/mail?said=mailed")
