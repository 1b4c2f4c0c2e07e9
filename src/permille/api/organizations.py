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
from permille.api.validation import INVALID, Fields, parse_uuid
from permille.clock import system_now
from permille.core.api_key import RESOURCES, Mode, Permissions
from permille.core.errors import Invalid, NotFound
from permille.core.organization import Organization
from permille.store import api_keys, organizations
from permille.store.api_keys import NewKey, StoredKey
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


def organization_at(conn: Connection[Any], path: Mapping[str, str]) -> Organization:
    """The organization in an address. Raises NotFound."""
    organization_id = parse_uuid(path["organization_id"])
    found = organizations.by_id(conn, organization_id) if organization_id else None
    if found is None:
        raise NotFound("organization")
    return found


def create_api_key(conn: Connection[Any], body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = organization_at(conn, path)
    now = system_now()
    wanted = read_key(Fields(root_object(body, "api_key")), now=now)
    return _new_key(conn, organization, usecase.add_key(conn, organization.id, **wanted, now=now))


def rotate_api_key(conn: Connection[Any], body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    """A new key with the same permissions; the old one ends at `expires_at`, or at once."""
    organization, now = organization_at(conn, path), system_now()
    fields = Fields(root_object(body, "api_key") if body else {})
    ends_at = fields.instant("expires_at") or now
    fields.check()
    key_id = parse_uuid(path["key_id"])
    made = usecase.rotate_key(conn, organization.id, key_id, ends_at=ends_at, now=now)
    return _new_key(conn, organization, made)


def _new_key(conn: Connection[Any], organization: Organization, key: NewKey) -> dict[str, Any]:
    made = next(each for each in api_keys.of_organization(conn, organization.id) if each.id == key.id)
    return {
        "api_key": objects.NewApiKey(
            lago_id=key.id,
            name=made.name or "",
            api_key=key.secret,
            prefix=key.prefix,
            permissions=_permissions(made),
            expires_at=instant(made.expires_at),
        )
    }


def read_key(fields: Fields, *, now: datetime) -> dict[str, Any]:
    """Name, permissions and end of a new key. Raises Invalid."""
    name = fields.text("name", mandatory=True) or ""
    expires_at = fields.instant("expires_at")
    if expires_at is not None and expires_at <= now:
        fields.refuse("expires_at", "invalid_date")
    permissions = _read_permissions(fields)
    fields.check()
    return {"name": name, "permissions": permissions, "expires_at": expires_at}


def _read_permissions(fields: Fields) -> Permissions | None:
    given = fields.given.get("permissions")
    if given is None:
        return None
    if not isinstance(given, dict) or not given:
        fields.refuse("permissions", INVALID)
        return None
    found: dict[str, list[str]] = {}
    for resource, modes in given.items():
        if resource not in RESOURCES:
            fields.refuse("permissions", INVALID, allowed=RESOURCES)
        elif not isinstance(modes, list) or not modes or any(mode not in list(Mode) for mode in modes):
            fields.refuse(f"permissions.{resource}", INVALID, allowed=[mode.value for mode in Mode])
        else:
            found[resource] = sorted(set(modes))
    return found


def list_api_keys(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    return {"api_keys": render_keys(api_keys.of_organization(conn, organization_at(conn, path).id))}


def render_keys(keys: Sequence[StoredKey]) -> list[objects.ApiKey]:
    """Keys without their secrets."""
    return [
        objects.ApiKey(
            lago_id=key.id,
            name=key.name or "",
            prefix=key.prefix,
            last_four=key.last_four,
            permissions=_permissions(key),
            created_at=instant(key.created_at),
            expires_at=instant(key.expires_at),
            revoked_at=instant(key.revoked_at),
            last_used_at=instant(key.last_used_at),
        )
        for key in keys
    ]


def _permissions(key: StoredKey) -> dict[str, list[str]] | None:
    return None if key.permissions is None else {name: list(modes) for name, modes in key.permissions.items()}


def revoke_api_key(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = organization_at(conn, path)
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
        call.conn,
        organization=call.organization,
        until=until,
        pause=commits_for(call.conn, MOVE_SECONDS, rest=call.engine.turns.rest_of(call.organization.id)),
    )
    return _test_clock(call) if has_arrived else Accepted(content=_test_clock(call))


def commits_for(
    conn: Connection[Any], seconds: float, *, rest: Callable[[float, float], None]
) -> Callable[[], bool]:
    """A pause between steps, which commits what was done so far, and says when the time is over.

    `rest` is called with how long a step took, and with what this thread took of a processor in all.
    """
    began = last = time.monotonic()
    took = time.thread_time()

    def pause() -> bool:
        nonlocal last
        conn.commit()
        rest(time.monotonic() - last, time.thread_time() - took)
        last = time.monotonic()
        return last > began + seconds

    return pause
