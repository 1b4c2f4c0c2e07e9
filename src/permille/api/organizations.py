"""The admin API: organizations and their keys; and an organization's test clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType
from psycopg import Connection

from permille.api.billing_entities import read_settings
from permille.api.http import Accepted, Call, root_object
from permille.api.objects import organization as objects
from permille.api.render import instant
from permille.api.validation import Fields, parse_uuid
from permille.clock import system_now
from permille.core.errors import Invalid, NotFound
from permille.core.organization import Organization
from permille.store import organizations
from permille.usecases import organizations as usecase
from permille.usecases.due import due

MOVE_SECONDS = 20.0
"""How long a request moves a test clock, before it leaves the rest to the worker."""


def create_organization(conn: Connection[Any], body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    """POST /admin/v1/organizations: the organization, its billing entity and a first API key, shown once."""
    now = system_now()
    wanted = read_organization(Fields(root_object(body, "organization")), now=now)
    made, key = usecase.create(conn, **wanted, now=now)
    return {"organization": render_organization(made, api_key=key.secret)}


def read_organization(fields: Fields, *, now: datetime) -> dict[str, Any]:
    """Name, clock and settings of a new organization. Raises Invalid."""
    wanted = {
        "test_now": read_clock(fields, now),
        "name": (fields.text("name", mandatory=True) or "").strip(),
        "entity": read_settings(fields),
    }
    fields.check()
    return wanted


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
    organization_id = parse_uuid(path["organization_id"])
    found = organizations.by_id(conn, organization_id) if organization_id else None
    if found is None:
        raise NotFound("organization")
    return found


def create_api_key(conn: Connection[Any], body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = _organization(conn, path)
    name = read_key_name(Fields(root_object(body, "api_key")))
    key_id, key = usecase.add_key(conn, organization.id, name=name, now=system_now())
    made = objects.NewApiKey(lago_id=key_id, name=name, api_key=key.secret, prefix=key.prefix)
    return {"api_key": made}


def read_key_name(fields: Fields) -> str:
    """Raises Invalid."""
    name = fields.text("name", mandatory=True) or ""
    fields.check()
    return name


def list_api_keys(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    return {"api_keys": render_keys(organizations.keys(conn, _organization(conn, path).id))}


def render_keys(rows: Sequence[tuple[Any, ...]]) -> list[objects.ApiKey]:
    """Keys without their secrets."""
    return [
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


def revoke_api_key(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = _organization(conn, path)
    key_id = usecase.revoke_key(conn, organization.id, parse_uuid(path["key_id"]), now=system_now())
    return {"api_key": objects.RevokedApiKey(lago_id=key_id)}


def show_test_clock(call: Call) -> dict[str, Any]:
    """GET /test_clock. A live organization has none: 403."""
    usecase.refuse_live(call.organization)
    return _test_clock(call)


def _test_clock(call: Call) -> dict[str, Any]:
    clock = organizations.clock(call.conn, call.organization.id)
    assert clock is not None, "an organization in test mode has a clock"
    return {"test_clock": objects.TestClock(now=instant(clock.now), moving_to=instant(clock.target))}


def read_move(given: dict[str, Any]) -> datetime:
    """The instant that a clock is to be moved to. Raises Invalid."""
    until = Fields(given).instant("now")
    if until is None:
        raise Invalid({"now": ["invalid_date"]})
    return until


def move_test_clock(call: Call) -> dict[str, Any] | Accepted:
    """PUT /test_clock: everything that became due up to then has run, in order, when this answers 200.

    What takes longer than a request may is left to the worker, and answered with 202.
    """
    usecase.refuse_live(call.organization)
    until = read_move(call.root("test_clock"))
    has_arrived = due.move_clock(
        call.conn, organization=call.organization, until=until, pause=commits_for(call.conn, MOVE_SECONDS)
    )
    return _test_clock(call) if has_arrived else Accepted(content=_test_clock(call))


def commits_for(conn: Connection[Any], seconds: float) -> Callable[[], bool]:
    """A pause between steps, which commits what was done so far, and says when the time is over."""
    ends = time.monotonic() + seconds

    def pause() -> bool:
        conn.commit()
        return time.monotonic() > ends

    return pause
