"""Mail to customers: what was sent and what came of it; sent, and sent again, by hand."""

from __future__ import annotations

from permille.api.mails import read_recipients
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import NotFound
from permille.core.invoice.draft import InvoiceStatus
from permille.core.mail import MailKind, MailStatus
from permille.out.mail.sending import is_set_up
from permille.store import customers, invoices, mails
from permille.usecases import mail as usecase
from permille.usecases.invoices import single
from permille.web.visit import Done, HtmlPage, Visit


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
    known = invoices.invoices_by_ids(visit.conn, {row.object_id for row in rows})
    context = {
        "mails": [(row, known[row.object_id].number) for row in rows if row.object_id in known],
        "meta": page.meta(total),
        "status_wanted": wanted,
        "statuses": list(MailStatus),
        "is_set_up": is_set_up(visit.engine.config),
        "test_recipients": visit.engine.config.mail_test_recipients,
    }
    return HtmlPage(template="mails.html", context=context)


def send_invoice(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/mail: to the addresses in the form, else to the customer."""
    invoice = single.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    if invoice.status != InvoiceStatus.FINALIZED:
        raise NotFound("invoice")
    to = [each.strip() for each in visit.form.get("to").split(",") if each.strip()]
    payer = customers.by_ids(visit.conn, [invoice.customer_id])[invoice.customer_id]
    usecase.send(
        visit.conn,
        visit.here.id,
        MailKind.INVOICE,
        invoice.id,
        customers_email=payer.email,
        **read_recipients(Fields({"to": to})),
        now=visit.now,
    )
    return Done(action="sent invoice by mail", subject=invoice.number, to="/app/mail?said=mailed")


def send_again(visit: Visit) -> Done:
    """POST /app/mails/{mail_id}/send-again."""
    mail_id = parse_uuid(visit.path["mail_id"])
    if mail_id is None:
        raise NotFound("mail")
    usecase.send_again(visit.conn, visit.here.id, mail_id)
    return Done(action="sent mail again", subject=str(mail_id), to="/app/mail?said=mailed")
