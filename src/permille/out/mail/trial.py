"""A mail to somebody of the house, to see whether the mail server takes any."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from permille.config import Config
from permille.core.mail import address
from permille.core.record import Record
from permille.out.mail.servers import installation_route
from permille.out.mail.smtp import Connection, RefusedForGood, RefusedForNow, within


class Trial(Record, kw_only=True):
    """How it went, in a sentence."""

    ok: bool
    text: str


def send_trial(config: Config, recipient: str) -> Trial:
    """Send it through the installation's server, and say what that answers."""
    to, route = address(recipient), installation_route(config)
    if to is None:
        return Trial(ok=False, text=f"{recipient} is no mail address.")
    if route is None:
        return Trial(ok=False, text="No mail server: set PERMILLE_SMTP_HOST and PERMILLE_MAIL_FROM.")
    sender = route.server.mail_from
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Permille can send mail", sender, to
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=sender.partition("@")[2])
    message.set_content("This is the mail of `permille mail test`. Nothing is to be done.")
    connection = Connection(route)
    try:
        with within(connection, route.seconds):
            connection.open()
            connection.address(sender, [to])
            said = connection.hand_over(message)
    except (RefusedForNow, RefusedForGood, OSError) as error:
        return Trial(ok=False, text=f"{route} did not take it: {error}")
    finally:
        connection.close()
    return Trial(ok=True, text=f"{route} has taken it: {said}")
