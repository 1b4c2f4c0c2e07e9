"""The admin API: organizations and their keys; and an organization's test clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType
from psycopg import Connection

from permille.api.billing_entities import read_settings
from permille.api.http import Call, root_object
from permille.api.objects import organization as objects
from permille.api.render import instant
from permille.api.validation import Fields
from permille.clock import system_now
from permille.core.errors import Forbidden, Invalid, NotFound
from permille.core.organization import Organization
from permille.store import organizations
from permille.usecases.due import due


def create_organization(conn: Connection[Any], body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    """POST /admin/v1/organizations: the organization, its billing entity and a first API key, shown once."""
    fields = Fields(root_object(body, "organization"))
    now = system_now()
    test_now = read_clock(fields, now)
    name = (fields.text("name", mandatory=True) or "").strip()
    settings = read_settings(fields)
    fields.check()
    organization = organizations.add(conn, name=name, test_now=test_now, entity=settings, now=now)
    _, key = organizations.add_key(
        conn, organization_id=organization.id, name="first key", now=organization.created_at
    )
    return {"organization": render_organization(organization, api_key=key.secret)}


def read_clock(fields: Fields, now: datetime) -> datetime | None:
    """Where the test clock starts, None for a live organization."""
    start = fields.instant("now")
    if not fields.flag("test_mode"):
        if start is not None:
            fields.refuse("now", "only_in_test_mode")
        return None
    return start or now


def render_organization(
    organization: Organization, *, api_key: str | UnsetType = UNSET
) -> objects.InstalledOrganization:
    return objects.InstalledOrganization(
        lago_id=organization.id,
        name=organization.name,
        test_mode=organization.test_mode,
        now=instant(organization.test_now),
        hmac_key=organization.hmac_key,
        created_at=instant(organization.created_at),
        api_key=api_key,
    )


def list_organizations(conn: Connection[Any], _body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    rows, total = organizations.listing(conn, limit=1_000, offset=0)
    return {
        "organizations": [render_organization(row) for row in rows],
        "meta": objects.OrganizationCount(total_count=total),
    }


def _organization(conn: Connection[Any], path: Mapping[str, str]) -> Organization:
    try:
        found = organizations.by_id(conn, UUID(path["organization_id"]))
    except ValueError:
        found = None
    if found is None:
        raise NotFound("organization")
    return found


def create_api_key(conn: Connection[Any], body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = _organization(conn, path)
    fields = Fields(root_object(body, "api_key"))
    name = fields.text("name", mandatory=True) or ""
    fields.check()
    key_id, key = organizations.add_key(conn, organization_id=organization.id, name=name, now=system_now())
    made = objects.NewApiKey(lago_id=key_id, name=name, api_key=key.secret, prefix=key.prefix)
    return {"api_key": made}


def list_api_keys(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    rows = organizations.keys(conn, _organization(conn, path).id)
    return {
        "api_keys": [
            objects.ApiKey(
                lago_id=key_id,
                name=name,
                prefix=prefix,
                last_four=last_four,
                created_at=instant(created_at),
                revoked_at=instant(revoked_at),
            )
            for key_id, name, prefix, last_four, created_at, revoked_at in rows
        ]
    }


def revoke_api_key(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = _organization(conn, path)
    try:
        key_id = UUID(path["key_id"])
    except ValueError as error:
        raise NotFound("api_key") from error
    if not organizations.revoke_key(conn, organization_id=organization.id, key_id=key_id, now=system_now()):
        raise NotFound("api_key")
    return {"api_key": objects.RevokedApiKey(lago_id=key_id)}


def show_test_clock(call: Call) -> dict[str, Any]:
    """GET /test_clock. A live organization has none: 403."""
    if not call.organization.test_mode:
        raise Forbidden("test_clock_not_available")
    return {"test_clock": objects.TestClock(now=instant(call.now))}


def read_move(given: dict[str, Any]) -> datetime:
    """The instant that a clock is to be moved to. Raises Invalid."""
    until = Fields(given).instant("now")
    if until is None:
        raise Invalid({"now": ["invalid_date"]})
    return until


def move_test_clock(call: Call) -> dict[str, Any]:
    """PUT /test_clock: everything that became due up to then has run, in order, when this answers."""
    if not call.organization.test_mode:
        raise Forbidden("test_clock_not_available")
    until = read_move(call.root("test_clock"))
    due.move_clock(call.conn, organization=call.organization, until=until)
    return {"test_clock": objects.TestClock(now=instant(until))}
