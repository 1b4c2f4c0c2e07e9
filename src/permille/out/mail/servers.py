"""Which mail server an organization's mail goes through: its own, else the installation's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.config import Config
from permille.core.mail import MailSecurity, MailServer
from permille.core.record import Record
from permille.out.addresses import Reach, reach_of
from permille.store import mail_servers, organizations


class Route(Record, kw_only=True):
    """A server, and how far and how long connections to it may go."""

    server: MailServer
    reach: Reach
    seconds: float

    def __str__(self) -> str:
        return f"{self.server.host}:{self.server.port}"


def installation_route(config: Config) -> Route | None:
    """By way of the installation's server; None where it has none."""
    if not config.smtp_host or not config.mail_from:
        return None
    server = MailServer(
        host=config.smtp_host,
        port=config.smtp_port,
        security=MailSecurity(config.smtp_security),
        user=config.smtp_user,
        password=config.smtp_password,
        mail_from=config.mail_from,
    )
    return Route(server=server, reach=Reach.ANYWHERE, seconds=config.smtp_timeout_seconds)


def route_of(conn: Connection[Any], config: Config, organization_id: UUID) -> Route | None:
    """How the organization's mail is sent; None where it is not."""
    own = mail_servers.of_organization(conn, organization_id)
    organization = organizations.by_id(conn, organization_id)
    if own is None or organization is None:
        return installation_route(config)
    reach = reach_of(config, test_mode=organization.test_mode)
    return Route(server=own, reach=reach, seconds=config.smtp_timeout_seconds)
