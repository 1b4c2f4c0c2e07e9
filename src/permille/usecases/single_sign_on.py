"""Which user somebody is whom a provider of single sign-on has signed in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.errors import Forbidden
from permille.core.record import Record
from permille.out.single_sign_on import Identity
from permille.store import identities, organizations, users
from permille.store.activity import ActorKind
from permille.store.users import User, email_problem
from permille.usecases import activity

OPERATION = "GET /app/sign-in/sso/callback"


class Welcome(Record, kw_only=True):
    """Whose emails become users by their first sign-in, in which organization, and with which role."""

    domains: Sequence[str]
    organization: str | None
    role: str


def user_of(conn: Connection[Any], identity: Identity, *, welcome: Welcome, now: datetime) -> User:
    """The user, bound to the provider's subject at the first time. Raises Forbidden.

    After that the subject decides, not the email: an email may be given to somebody else.
    """
    known = identities.user_id_of(conn, identity.issuer, identity.subject)
    user = users.by_id(conn, known) if known else None
    if user is not None:
        return user
    user = users.by_email(conn, identity.email)
    if user is None or not users.hold(conn, user.id):
        user = _new_user(conn, identity, welcome, now=now)
    if not identities.bind(conn, identity.issuer, identity.subject, user.id, now=now):
        raise Forbidden("sso_other_identity")
    return user


def _new_user(conn: Connection[Any], identity: Identity, welcome: Welcome, *, now: datetime) -> User:
    """A user in the organization of the settings. Raises Forbidden for an email that is none of theirs."""
    domain = identity.email.rpartition("@")[2].lower()
    found = organizations.named(conn, welcome.organization) if welcome.organization else []
    if domain not in welcome.domains or email_problem(identity.email) or len(found) != 1:
        raise Forbidden("sso_unknown_user")
    (organization,) = found
    change = activity.begin(conn, ActorKind.USER, OPERATION, organization=organization, now=now)
    user = users.add(conn, email=identity.email, password_hash=None, is_owner=False, now=now)
    if user is None:
        raise Forbidden("sso_unknown_user")
    users.join_organization(
        conn, user_id=user.id, organization_id=organization.id, role=welcome.role, now=now
    )
    details = {"role": welcome.role, "by": identity.issuer}
    activity.describe(conn, change, action="joined", subject=user.email, details=details, user=user)
    return user
