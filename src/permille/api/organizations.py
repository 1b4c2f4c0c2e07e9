"""The admin API: organizations and their keys; and an organization's test clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from psycopg import Connection

from permille.api.http import Call, root_object
from permille.api.render import instant
from permille.billing import due
from permille.clock import system_now
from permille.core.errors import Forbidden, Invalid, NotFound
from permille.core.instants import parse_instant
from permille.core.money import CURRENCIES
from permille.core.organization import Organization
from permille.store import organizations

TEXT_SETTINGS = (
    "email",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "address_line1",
    "address_line2",
    "city",
    "zipcode",
    "state",
    "country",
    "logo_url",
    "invoice_footer",
    "document_locale",
    "document_number_prefix",
)
DAY_SETTINGS = ("net_payment_term", "invoice_grace_period")
CHOICES = {
    "document_numbering": ("per_customer", "per_billing_entity"),
    "subscription_invoice_issuing_date_anchor": ("current_period_end", "next_period_start"),
    "subscription_invoice_issuing_date_adjustment": ("keep_anchor", "align_with_finalization_date"),
}


def create_organization(conn: Connection[Any], body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    """POST /admin/v1/organizations: the organization, its billing entity and a first API key, shown once."""
    wanted = root_object(body, "organization")
    now = system_now()
    test_now = read_clock(wanted, now)
    name = wanted.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Invalid({"name": ["value_is_mandatory"]})
    organization = organizations.add(
        conn, name=name.strip(), test_now=test_now, entity=entity_settings(wanted), now=now
    )
    _, key = organizations.add_key(
        conn, organization_id=organization.id, name="first key", now=organization.created_at
    )
    return {"organization": {**render_organization(organization), "api_key": key.secret}}


def read_clock(wanted: Mapping[str, Any], now: datetime) -> datetime | None:
    """Where the test clock starts, None for a live organization. Raises Invalid on a bad `now`."""
    test_mode = wanted.get("test_mode", False)
    if not isinstance(test_mode, bool):
        raise Invalid({"test_mode": ["value_is_invalid"]})
    start = wanted.get("now")
    if not test_mode:
        if start is not None:
            raise Invalid({"now": ["only_in_test_mode"]})
        return None
    if start is None:
        return now
    parsed = parse_instant(start)
    if parsed is None:
        raise Invalid({"now": ["invalid_date"]})
    return parsed


def entity_settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The billing-entity columns that an organization's body sets. Raises Invalid with every bad field."""
    settings: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    given = {**wanted, **(wanted.get("billing_configuration") or {})}
    for field, value in given.items():
        if value is None:
            continue
        if (problem := _setting_problem(field, value)) is not None:
            errors[field] = [problem]
        elif field in TEXT_SETTINGS or field in DAY_SETTINGS or field in CHOICES:
            settings[field] = value
        elif field in ("timezone", "default_currency", "finalize_zero_amount_invoice"):
            settings[field] = value
    if errors:
        raise Invalid(errors)
    if "document_number_prefix" in settings:
        settings["document_number_prefix"] = settings["document_number_prefix"].upper()
    return settings


def _setting_problem(field: str, value: Any) -> str | None:
    if field in DAY_SETTINGS:
        whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000
        return None if whole else "value_is_out_of_range"
    if field == "document_number_prefix" and not (isinstance(value, str) and 1 <= len(value) <= 10):
        return "value_is_invalid"
    allowed = {
        **CHOICES,
        "timezone": available_timezones(),
        "default_currency": CURRENCIES,
        "finalize_zero_amount_invoice": (True, False),
    }
    if field in allowed:
        return None if isinstance(value, str | bool) and value in allowed[field] else "value_is_invalid"
    if field in TEXT_SETTINGS and not isinstance(value, str):
        return "value_is_invalid"
    return None


def render_organization(organization: Organization) -> dict[str, Any]:
    return {
        "lago_id": str(organization.id),
        "name": organization.name,
        "test_mode": organization.test_mode,
        "now": instant(organization.test_now),
        "hmac_key": organization.hmac_key,
        "created_at": instant(organization.created_at),
    }


def list_organizations(conn: Connection[Any], _body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    rows, total = organizations.listing(conn, limit=1_000, offset=0)
    return {
        "organizations": [render_organization(row) for row in rows],
        "meta": {"total_count": total},
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
    wanted = root_object(body, "api_key")
    name = wanted.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Invalid({"name": ["value_is_mandatory"]})
    key_id, key = organizations.add_key(conn, organization_id=organization.id, name=name, now=system_now())
    return {"api_key": {"lago_id": str(key_id), "name": name, "api_key": key.secret, "prefix": key.prefix}}


def list_api_keys(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    rows = organizations.keys(conn, _organization(conn, path).id)
    return {
        "api_keys": [
            {
                "lago_id": str(key_id),
                "name": name,
                "prefix": prefix,
                "last_four": last_four,
                "created_at": instant(created_at),
                "revoked_at": instant(revoked_at),
            }
            for key_id, name, prefix, last_four, created_at, revoked_at in rows
        ]
    }


def revoke_api_key(conn: Connection[Any], _body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    organization = _organization(conn, path)
    try:
        key_id = UUID(path["key_id"])
    except ValueError as error:
        raise NotFound("api_key") from error
    if not organizations.revoke_key(
        conn, organization_id=organization.id, key_id=key_id, now=system_now()
    ):
        raise NotFound("api_key")
    return {"api_key": {"lago_id": str(key_id)}}


def show_test_clock(call: Call) -> dict[str, Any]:
    """GET /test_clock. A live organization has none: 403."""
    if not call.organization.test_mode:
        raise Forbidden("test_clock_not_available")
    return {"test_clock": {"now": instant(call.now)}}


def move_test_clock(call: Call) -> dict[str, Any]:
    """PUT /test_clock: everything that became due up to then has run, in order, when this answers."""
    if not call.organization.test_mode:
        raise Forbidden("test_clock_not_available")
    until = parse_instant(call.root("test_clock").get("now"))
    if until is None:
        raise Invalid({"now": ["invalid_date"]})
    due.move_clock(call.conn, organization=call.organization, until=until)
    return {"test_clock": {"now": instant(until)}}
