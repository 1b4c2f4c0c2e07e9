"""Mails: queued in the transaction of the change, sent afterwards (out/mail), kept as a log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.mail import MailKind, MailStatus
from permille.core.record import Record
from permille.database.bulk import hex_array, uuid_array
from permille.ids import new_id_texts
from permille.store import jobs
from permille.store.jobs import Job

JOB = "mail"
RESPONSE_KEPT = 1_000
"""Characters of what a mail server said."""


class Mail(Record, kw_only=True):
    """A mail. `created_at` is by the organization's clock, everything else by the system's."""

    id: UUID
    organization_id: UUID
    kind: MailKind
    object_id: UUID
    recipients: list[str]
    cc: list[str]
    bcc: list[str]
    status: MailStatus
    attempts: int
    next_attempt_at: datetime | None
    handed_over_at: datetime | None
    response: str | None
    sent_at: datetime | None
    queued_at: datetime
    created_at: datetime

    @property
    def everybody(self) -> list[str]:
        return [*self.recipients, *self.cc, *self.bcc]


_COLUMNS = (
    "id, organization_id, kind, object_id, recipients, cc, bcc, status, attempts, next_attempt_at, handed_over_at,"
    " response, sent_at, queued_at, created_at"
)


def wants_automatic(conn: Connection[Any], organization_id: UUID, setting: str) -> bool:
    """Whether a billing entity of the organization sends these without being asked."""
    row = conn.execute(
        "select exists (select from billing_entity where organization_id = %s and %s = any(email_settings))",
        [organization_id, setting],
    ).fetchone()
    return bool(row and row[0])


class NewMail(Record, kw_only=True):
    kind: MailKind
    object_id: UUID
    recipients: Sequence[str]
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()


_ADD = """
insert into mail (id, organization_id, kind, object_id, recipients, cc, bcc, next_attempt_at, queued_at, created_at)
select id, %(organization)s, kind, object_id, string_to_array(recipients, ','), string_to_array(cc, ','),
    string_to_array(bcc, ','), 'epoch', %(system_now)s, %(now)s
from unnest(%(ids)s::uuid[], %(kinds)s::text[], %(objects)s::uuid[], %(to)s::text[], %(cc)s::text[], %(bcc)s::text[])
    as mail (id, kind, object_id, recipients, cc, bcc)
"""


def add(
    conn: Connection[Any],
    organization_id: UUID,
    mails: Sequence[NewMail],
    *,
    now: datetime,
    system_now: datetime,
) -> list[UUID]:
    """Queue mails; the job that sends them is queued with them."""
    if not mails:
        return []
    ids = new_id_texts(now, len(mails))
    conn.execute(
        _ADD,
        {
            "organization": organization_id,
            "now": now,
            "system_now": system_now,
            "ids": hex_array(ids),
            "kinds": [each.kind.value for each in mails],
            "objects": uuid_array([each.object_id for each in mails]),
            "to": [",".join(each.recipients) for each in mails],
            "cc": [",".join(each.cc) for each in mails],
            "bcc": [",".join(each.bcc) for each in mails],
        },
    )
    _defer(conn, [organization_id])
    return [UUID(each) for each in ids]


def defer_due(conn: Connection[Any], *, now: datetime) -> None:
    """Queue a job for each organization with a mail that is due."""
    rows = conn.execute(
        "select distinct organization_id from mail where next_attempt_at <= %s", [now]
    ).fetchall()
    _defer(conn, [row[0] for row in rows])


def _defer(conn: Connection[Any], organization_ids: Sequence[UUID]) -> None:
    found = [str(each) for each in organization_ids]
    jobs.defer(conn, [Job(kind=JOB, key=each, owner=each, is_slow=True) for each in found])


def claim(
    conn: Connection[Any], organization_id: UUID, *, now: datetime, lease_until: datetime
) -> Mail | None:
    """The mail that has been due longest, leased, and its attempt counted."""
    with conn.cursor(row_factory=class_row(Mail)) as cursor:
        return cursor.execute(
            "update mail set attempts = attempts + 1, next_attempt_at = %(lease)s where id = ("
            "select id from mail where organization_id = %(organization)s and next_attempt_at <= %(now)s"
            " order by next_attempt_at, id limit 1 for update skip locked)"
            f" returning {_COLUMNS}",
            {"organization": organization_id, "now": now, "lease": lease_until},
        ).fetchone()


def hand_over(conn: Connection[Any], mail_id: UUID, *, now: datetime) -> None:
    """From now on the mail server may have it."""
    conn.execute("update mail set handed_over_at = %s where id = %s", [now, mail_id])


def record(
    conn: Connection[Any],
    mail_id: UUID,
    *,
    status: MailStatus,
    response: str,
    next_attempt_at: datetime | None = None,
    sent_at: datetime | None = None,
) -> None:
    """What came of an attempt."""
    conn.execute(
        "update mail set status = %s, response = %s, next_attempt_at = %s, sent_at = %s, handed_over_at = null"
        " where id = %s",
        [status.value, response[:RESPONSE_KEPT], next_attempt_at, sent_at, mail_id],
    )


def postpone(
    conn: Connection[Any], organization_id: UUID, *, response: str, now: datetime, until: datetime
) -> None:
    """Let what is due of an organization wait, without counting an attempt, but for what the mail server may have."""
    conn.execute(
        "update mail set response = %s, next_attempt_at = %s"
        " where organization_id = %s and next_attempt_at <= %s and handed_over_at is null",
        [response[:RESPONSE_KEPT], until, organization_id, now],
    )


def retry_waiting(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Try what waits again at once, but for what is being sent."""
    conn.execute(
        "update mail set next_attempt_at = %s where organization_id = %s and next_attempt_at > %s"
        " and status = 'waiting' and response is not null and handed_over_at is null",
        [now, organization_id, now],
    )
    _defer(conn, [organization_id])


def repeat(conn: Connection[Any], organization_id: UUID, mail_id: UUID, *, system_now: datetime) -> bool:
    """Send a mail again that is not waiting; whether there is such a one."""
    done = conn.execute(
        "update mail set status = 'waiting', attempts = 0, next_attempt_at = 'epoch', handed_over_at = null,"
        " queued_at = %s where organization_id = %s and id = %s and next_attempt_at is null",
        [system_now, organization_id, mail_id],
    )
    if done.rowcount:
        _defer(conn, [organization_id])
    return done.rowcount == 1


def by_ids(conn: Connection[Any], organization_id: UUID, mail_ids: Collection[UUID]) -> dict[UUID, Mail]:
    with conn.cursor(row_factory=class_row(Mail)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from mail where organization_id = %s and id = any(%s)",
            [organization_id, uuid_array(mail_ids)],
        ).fetchall()
    return {row.id: row for row in rows}


def unsent(conn: Connection[Any], organization_id: UUID, *, since: datetime, limit: int) -> list[Mail]:
    """Mails made since an instant that have failed, or are tried again after they did, the oldest first."""
    with conn.cursor(row_factory=class_row(Mail)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from mail where organization_id = %s and created_at >= %s and (status in ('failed', 'unknown')"
            " or status = 'waiting' and response is not null) order by created_at, id limit %s",
            [organization_id, since, limit],
        ).fetchall()


def listing(
    conn: Connection[Any], organization_id: UUID, *, status: str | None, limit: int, offset: int
) -> tuple[list[Mail], int]:
    """Mails, newest first, and how many there are."""
    where = "organization_id = %s and (%s::text is null or status = %s)"
    values = [organization_id, status, status]
    with conn.cursor(row_factory=class_row(Mail)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from mail where {where} order by created_at desc, id limit %s offset %s",
            [*values, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) from mail where {where}", values).fetchone()
    return rows, row[0] if row else 0
