"""The job that sends an organization's mails, one after the other.

A mail is leased before anything is done with it, so that a crash repeats an attempt. Right before its text goes to the mail
server that is noted, too: a crash from there on leaves it `unknown`, since a mail that the server has may not be sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from permille.clock import system_now
from permille.core.mail import EXPIRES_AFTER, PAUSES, MailStatus, allowed_in_test_mode, pause_after
from permille.out.kind import Context, Kind
from permille.out.mail.letter import message_of
from permille.out.mail.letters import WRITERS, GoneError
from permille.out.mail.servers import Route, route_of
from permille.out.mail.smtp import Connection, NoConnection, RefusedForGood, RefusedForNow, within
from permille.store import mails, organizations
from permille.store.mails import Mail

log = logging.getLogger(__name__)

LEASE_SPARE = timedelta(minutes=5)
"""For making the PDF, and for recording what came of the attempt."""
NOT_KNOWN = "It is not known whether the mail server has taken it. Send it again if it hasn't."


def send_due(context: Context, organization: str, *, clock: Callable[[], datetime] = system_now) -> int:
    """Send what is due of an organization; how many attempts that were. `clock` is the system's.

    When its server can't be used, all its mails wait, so that it takes the time of no other's.
    """
    count = 0
    while not context.is_stopping():
        now = clock()
        lease = timedelta(seconds=context.config.smtp_timeout_seconds) + LEASE_SPARE
        with context.pool.connection() as conn:
            route = route_of(conn, context.config, UUID(organization))
            if route is None:
                break
            mail = mails.claim(conn, UUID(organization), now=now, lease_until=now + lease)
        if mail is None:
            break
        count += 1
        if not _attempt(context, route, mail, clock):
            break
    return count


JOB = Kind(name=mails.JOB, run=send_due)


def _attempt(context: Context, route: Route, mail: Mail, clock: Callable[[], datetime]) -> bool:
    """Try to send a mail and record what came of it; whether the server can be used."""
    now = clock()
    if mail.handed_over_at is not None:
        _record(context, mail, MailStatus.UNKNOWN, NOT_KNOWN)
    elif now - mail.queued_at > EXPIRES_AFTER:
        _record(context, mail, MailStatus.FAILED, mail.response or "It could not be sent for three days.")
    else:
        try:
            _send(context, route, mail, now)
        except (GoneError, RefusedForGood) as error:
            _record(context, mail, MailStatus.FAILED, str(error))
        except NoConnection as error:
            _retry(context, mail, str(error), now)
            _postpone(context, mail, str(error), now)
            return False
        except RefusedForNow as error:
            _retry(context, mail, str(error), now)
        except Exception:
            log.exception("Mail %s of organization %s could not be sent", mail.id, mail.organization_id)
            _retry(context, mail, "It could not be made; the server's log says why.", now)
    return True


def _send(context: Context, route: Route, mail: Mail, now: datetime) -> None:
    """Raises RefusedForNow, RefusedForGood and GoneError, and what making the letter raises."""
    allowed = _allowed(context, mail)
    if not allowed:
        _record(
            context,
            mail,
            MailStatus.SUPPRESSED,
            "In test mode mail goes to PERMILLE_MAIL_TEST_RECIPIENTS only.",
        )
        return
    letter = WRITERS[mail.kind](context, mail.organization_id, mail.object_id)
    sender = route.server.mail_from
    message = message_of(mail, letter, sender=sender, reply_to=route.server.reply_to, now=now)
    connection = Connection(route)
    try:
        with within(connection, route.seconds):
            connection.open()
            refused = connection.address(sender, allowed)
            with context.pool.connection() as conn:
                mails.hand_over(conn, mail.id, now=now)
            try:
                said = connection.hand_over(message)
            except OSError as error:
                _record(context, mail, MailStatus.UNKNOWN, f"{NOT_KNOWN} {type(error).__name__}")
                return
    finally:
        connection.close()
    if refused:
        said = f"{said}; refused: {', '.join(refused)}"
    _record(context, mail, MailStatus.SENT, said, sent_at=now)


def _allowed(context: Context, mail: Mail) -> list[str]:
    """Who of those that a mail is for may get it."""
    with context.pool.connection() as conn:
        organization = organizations.by_id(conn, mail.organization_id)
    if organization is None or not organization.test_mode:
        return mail.everybody
    return allowed_in_test_mode(mail.everybody, context.config.mail_test_recipients.split(","))


def _postpone(context: Context, failed: Mail, response: str, now: datetime) -> None:
    """Let the others wait as long as a mail that can't be sent."""
    until = now + (pause_after(failed.attempts) or PAUSES[-1])
    with context.pool.connection() as conn:
        mails.postpone(conn, failed.organization_id, response=response, now=now, until=until)


def _retry(context: Context, mail: Mail, response: str, now: datetime) -> None:
    pause = pause_after(mail.attempts)
    if pause is None:
        _record(context, mail, MailStatus.FAILED, response)
    else:
        _record(context, mail, MailStatus.WAITING, response, next_attempt_at=now + pause)


def _record(
    context: Context,
    mail: Mail,
    status: MailStatus,
    response: str,
    *,
    next_attempt_at: datetime | None = None,
    sent_at: datetime | None = None,
) -> None:
    with context.pool.connection() as conn:
        mails.record(
            conn, mail.id, status=status, response=response, next_attempt_at=next_attempt_at, sent_at=sent_at
        )
