"""The mail servers that organizations have of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.mail import MailSecurity, MailServer


def of_organization(conn: Connection[Any], organization_id: UUID) -> MailServer | None:
    """The organization's own server."""
    row = conn.execute(
        "select host, port, security, user_name, secret, mail_from, reply_to from mail_server"
        " where organization_id = %s",
        [organization_id],
    ).fetchone()
    if row is None:
        return None
    host, port, security, user, password, mail_from, reply_to = row
    return MailServer(
        host=host,
        port=port,
        security=MailSecurity(security),
        user=user,
        password=password,
        mail_from=mail_from,
        reply_to=reply_to,
    )


_SAVE = """
insert into mail_server (
    organization_id, host, port, security, user_name, secret, mail_from, reply_to, created_at, updated_at
) values (
    %(organization)s, %(host)s, %(port)s, %(security)s, %(user)s, %(secret)s, %(mail_from)s, %(reply_to)s, %(now)s, %(now)s
) on conflict (organization_id) do update set
    host = excluded.host, port = excluded.port, security = excluded.security, user_name = excluded.user_name,
    secret = excluded.secret, mail_from = excluded.mail_from, reply_to = excluded.reply_to, updated_at = excluded.updated_at
"""


def save(conn: Connection[Any], organization_id: UUID, server: MailServer, *, now: datetime) -> None:
    """Set the organization's server, in place of the one before."""
    values = {
        "organization": organization_id,
        "host": server.host,
        "port": server.port,
        "security": server.security.value,
        "user": server.user,
        "secret": server.password,
        "mail_from": server.mail_from,
        "reply_to": server.reply_to,
        "now": now,
    }
    conn.execute(_SAVE, values)


def delete(conn: Connection[Any], organization_id: UUID) -> bool:
    """Remove the organization's server; whether it had one."""
    return conn.execute("delete from mail_server where organization_id = %s", [organization_id]).rowcount == 1
