"""A mail before it is addressed, and the message that it becomes."""

from __future__ import annotations

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from typing import TYPE_CHECKING

from permille.core.record import Record
from permille.store.mails import Mail

if TYPE_CHECKING:
    from jinja2 import Environment


class Attachment(Record, kw_only=True):
    name: str
    content: bytes


class Letter(Record, kw_only=True):
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
    color: str
    """The heading's colour, which can be read on white."""
    logo_png: bytes | None = None
    """In place of the company's name at the top. Mail programs show no SVG."""


def message_of(
    mail: Mail, letter: Letter, *, sender: str, reply_to: str | None = None, now: datetime
) -> EmailMessage:
    """The mail as it is handed over; the same one has the same Message-ID whenever it is sent."""
    message = EmailMessage()
    message["Subject"] = _line(letter.subject)
    message["From"] = Address(display_name=_line(letter.sender_name), addr_spec=sender)
    message["To"] = ", ".join(mail.recipients)
    if mail.cc:
        message["Cc"] = ", ".join(mail.cc)
    if answers := reply_to or letter.reply_to:
        message["Reply-To"] = answers
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{mail.id}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = letter.language
    message.set_content(_environment().get_template("letter.txt").render(letter=letter))
    _add_html(message, letter, logo_id=f"<logo.{mail.id}@{sender.partition('@')[2]}>")
    for each in letter.attachments:
        message.add_attachment(each.content, maintype="application", subtype="pdf", filename=each.name)
    return message


def _add_html(message: EmailMessage, letter: Letter, *, logo_id: str) -> None:
    """The letter as a page; the logo is in the mail, so that nothing is loaded from elsewhere."""
    logo = f"cid:{logo_id[1:-1]}" if letter.logo_png else None
    page = _environment().get_template("letter.html").render(letter=letter, logo=logo)
    message.add_alternative(page, subtype="html")
    part = message.get_body(("html",))
    if letter.logo_png and part is not None:
        part.add_related(letter.logo_png, maintype="image", subtype="png", cid=logo_id)


def _line(text: str) -> str:
    """A header has one line."""
    return " ".join(text.split())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("permille.out.mail", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
