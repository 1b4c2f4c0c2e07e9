"""What mails say: a heading, a table of facts in the customer's language, and the document as a PDF.

To add a kind: a function from its object to a `Letter`, and one line in WRITERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from typing import Any
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from psycopg import Connection

from permille.clock import system_now
from permille.core.mail import MailKind, address
from permille.core.organization import Organization
from permille.out.kind import Context
from permille.store import billing_entities, invoices, organizations
from permille.store.mails import Mail


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail before it is addressed."""

    sender_name: str
    reply_to: str | None
    subject: str
    heading: str
    facts: tuple[tuple[str, str], ...]
    """Label and value, in the order in which they are read."""
    notes: tuple[str, ...]
    language: str
    is_right_to_left: bool
    attachments: tuple[Attachment, ...]


class GoneError(Exception):
    """What the mail is about is no more, or not to be sent."""


def invoice_letter(context: Context, organization_id: UUID, invoice_id: UUID) -> Letter:
    """The letter with an invoice. Raises GoneError for one that is voided or no longer there, and UnableToTypeset."""
    from permille.out.logos import current_logo
    from permille.out.pdf.assembly import invoice_document
    from permille.out.pdf.invoice import render_invoice
    from permille.out.pdf.language import language_of

    with context.pool.connection() as conn:
        invoice = invoices.invoices_by_ids(conn, [invoice_id]).get(invoice_id)
        if invoice is None or invoice.status != "finalized":
            raise GoneError("The invoice is not final.")
        organization = _organization(conn, organization_id)
        document = invoice_document(conn, invoice_id)
        entity = billing_entities.by_ids(conn, [invoice.billing_entity_id])[invoice.billing_entity_id]
    language = language_of(document.locale)
    allow_private = organization.test_mode or context.config.webhook_allow_private
    logo = current_logo(context.pool, entity, allow_private=allow_private, now=system_now())
    due = document.total_due_amount_cents
    payment = [(language.word("due"), language.day(document.payment_due_date))] if due else []
    return Letter(
        sender_name=document.issuer.name,
        reply_to=address(entity.email) if entity.email else None,
        subject=f"{document.issuer.name}: {language.word('invoice')} {document.number}",
        heading=f"{language.word('invoice')} {document.number}",
        facts=(
            (language.word("from"), document.issuer.name),
            (language.word("bill_to"), document.customer.name),
            (language.word("issued"), language.day(document.issuing_date)),
            *payment,
            (language.word("total_due"), language.money(due, document.currency)),
        ),
        notes=tuple(each for each in (document.bank_details,) if each and due),
        language=language.tag,
        is_right_to_left=language.is_right_to_left,
        attachments=(
            Attachment(name=f"{_file_name(document.number)}.pdf", content=render_invoice(document, logo)),
        ),
    )


WRITERS: Mapping[MailKind, Callable[[Context, UUID, UUID], Letter]] = {MailKind.INVOICE: invoice_letter}


def message_of(mail: Mail, letter: Letter, *, sender: str, now: datetime) -> EmailMessage:
    """The mail as it is handed over; the same one has the same Message-ID whenever it is sent."""
    message = EmailMessage()
    message["Subject"] = _line(letter.subject)
    message["From"] = Address(display_name=_line(letter.sender_name), addr_spec=sender)
    message["To"] = ", ".join(mail.recipients)
    if mail.cc:
        message["Cc"] = ", ".join(mail.cc)
    if letter.reply_to:
        message["Reply-To"] = letter.reply_to
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{mail.id}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = letter.language
    message.set_content(_environment().get_template("letter.txt").render(letter=letter))
    message.add_alternative(_environment().get_template("letter.html").render(letter=letter), subtype="html")
    for each in letter.attachments:
        message.add_attachment(each.content, maintype="application", subtype="pdf", filename=each.name)
    return message


def _organization(conn: Connection[Any], organization_id: UUID) -> Organization:
    found = organizations.by_id(conn, organization_id)
    if found is None:
        raise GoneError("The organization is no more.")
    return found


def _line(text: str) -> str:
    """A header has one line."""
    return " ".join(text.split())


def _file_name(number: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in number)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("permille.out.mail", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
