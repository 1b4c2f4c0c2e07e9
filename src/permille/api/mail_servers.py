"""The admin API: the mail server that an organization has of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from psycopg import Connection

from permille.api.http import root_object
from permille.api.objects import mail as objects
from permille.api.organizations import organization_at
from permille.api.validation import INVALID, MANDATORY, Fields
from permille.clock import system_now
from permille.core.errors import NotFound
from permille.core.mail import SMTP_PORT, MailSecurity, MailServer, address
from permille.store import mail_servers
from permille.usecases import mail

HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")


def show_mail_server(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    """GET /admin/v1/organizations/{organization_id}/mail_server. Raises NotFound where it has none of its own."""
    found = mail_servers.of_organization(conn, organization_at(conn, path).id)
    if found is None:
        raise NotFound("mail_server")
    return {"mail_server": render_server(found)}


def set_mail_server(conn: Connection[Any], body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    """PUT /admin/v1/organizations/{organization_id}/mail_server."""
    organization = organization_at(conn, path)
    before = mail_servers.of_organization(conn, organization.id)
    server = read_server(Fields(root_object(body, "mail_server")), before)
    mail.set_server(conn, organization.id, server, now=system_now())
    return {"mail_server": render_server(server)}


def delete_mail_server(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    """DELETE /admin/v1/organizations/{organization_id}/mail_server."""
    organization = organization_at(conn, path)
    found = mail_servers.of_organization(conn, organization.id)
    mail.remove_server(conn, organization.id)
    assert found is not None, "it was removed"
    return {"mail_server": render_server(found)}


def read_server(fields: Fields, before: MailServer | None) -> MailServer:
    """A server as it is sent. Raises Invalid.

    The password of the one before stays where none is sent, for the same host and user: nobody sends it elsewhere
    without knowing it.
    """
    host = fields.text("host", mandatory=True) or ""
    if host and not HOST.fullmatch(host):
        fields.refuse("host", INVALID)
    port = fields.whole("port", minimum=1, maximum=65_535) or SMTP_PORT
    security = fields.choice("security", list(MailSecurity)) or MailSecurity.STARTTLS
    user, password = fields.text("user"), fields.text("password")
    if before and not password and (before.host, before.user) == (host, user):
        password = before.password
    if user and not password:
        fields.refuse("password", MANDATORY)
    if user and security == MailSecurity.NONE:
        fields.refuse("security", INVALID, allowed=[MailSecurity.STARTTLS, MailSecurity.TLS])
    mail_from, reply_to = _address(fields, "mail_from", mandatory=True), _address(fields, "reply_to")
    fields.check()
    return MailServer(
        host=host,
        port=port,
        security=MailSecurity(security),
        user=user,
        password=password if user else None,
        mail_from=mail_from or "",
        reply_to=reply_to,
    )


def _address(fields: Fields, name: str, *, mandatory: bool = False) -> str | None:
    text = fields.text(name, mandatory=mandatory)
    found = address(text) if text else None
    if text and found is None:
        fields.refuse(name, INVALID)
    return found


def render_server(server: MailServer) -> objects.MailServer:
    """A server without its password."""
    return objects.MailServer(
        host=server.host,
        port=server.port,
        security=server.security,
        user=server.user,
        has_password=server.password is not None,
        mail_from=server.mail_from,
        reply_to=server.reply_to,
    )
