"""The mail server that an organization has of its own."""

from __future__ import annotations

from permille.api.mail_servers import read_server
from permille.api.validation import Fields
from permille.core.mail import SMTP_PORT, MailSecurity
from permille.out.mail.servers import installation_route
from permille.store import mail_servers
from permille.usecases import mail
from permille.web.visit import Done, HtmlPage, Visit

PAGE = "/app/mail-server"
TEXTS = ("host", "port", "security", "user", "password", "mail_from", "reply_to")
SECURITIES = (
    (MailSecurity.STARTTLS.value, "STARTTLS"),
    (MailSecurity.TLS.value, "TLS from the first byte"),
    (MailSecurity.NONE.value, "None"),
)


def show(visit: Visit) -> HtmlPage:
    """GET /app/mail-server."""
    context = {
        "server": mail_servers.of_organization(visit.conn, visit.here.id),
        "installed": installation_route(visit.engine.config),
        "securities": SECURITIES,
        "default_port": SMTP_PORT,
    }
    return HtmlPage(template="mail_server.html", context=context)


def save(visit: Visit) -> Done:
    """POST /app/mail-server."""
    before = mail_servers.of_organization(visit.conn, visit.here.id)
    server = read_server(Fields(visit.form.filled(*TEXTS)), before)
    mail.set_server(visit.conn, visit.here.id, server, now=visit.now)
    return Done(action="changed mail server", subject=server.host, to=f"{PAGE}?said=saved")


def remove(visit: Visit) -> Done:
    """POST /app/mail-server/remove."""
    mail.remove_server(visit.conn, visit.here.id)
    return Done(action="removed mail server", subject=visit.here.name, to=f"{PAGE}?said=deleted")


def send_test(visit: Visit) -> Done:
    """POST /app/mail/test: what comes of it is in the log."""
    to = visit.form.get("to")
    mail.send_test(visit.conn, visit.here.id, to, now=visit.now)
    return Done(action="sent test mail", subject=to, to="/app/mail?said=mailed")
