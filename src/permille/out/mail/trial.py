"""A mail to somebody of the house, to see whether the mail server takes any."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from permille.config import Config
from permille.core.mail import address
from permille.out.mail.sending import is_set_up
from permille.out.mail.smtp import Connection, RefusedForGood, RefusedForNow, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How it went, in a sentence."""

    ok: bool
    text: str


def send_trial(config: Config, recipient: str) -> Trial:
    """Send it, and say what the mail server answers."""
    to, sender = address(recipient), config.mail_from
    if to is None:
        return Trial(ok=False, text=f"{recipient} is no mail address.")
    if not is_set_up(config) or sender is None:
        return Trial(ok=False, text="No mail server: set PERMILLE_SMTP_HOST and PERMILLE_MAIL_FROM.")
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Permille can send mail", sender, to
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=sender.partition("@")[2])
    message.set_content("This is the mail of `permille mail test`. Nothing is to be done.")
    connection = Connection(config)
    try:
        with within(connection, config.smtp_timeout_seconds):
            connection.open()
            connection.address(sender, [to])
            said = connection.hand_over(message)
    except (RefusedForNow, RefusedForGood, OSError) as error:
        return Trial(ok=False, text=f"{config.smtp_host}:{config.smtp_port} did not take it: {error}")
    finally:
        connection.close()
    return Trial(ok=True, text=f"{config.smtp_host}:{config.smtp_port} has taken it: {said}")
