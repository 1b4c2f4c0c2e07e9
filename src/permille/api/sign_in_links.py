"""POST /admin/v1/sign_in_links: a one-time link into the web admin, for the operator of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import root_object
from permille.api.objects.sign_in_link import SignInLink
from permille.api.validation import Fields, parse_uuid
from permille.clock import system_now
from permille.store import organizations, users
from permille.usecases import users as usecase


def create_sign_in_link(conn: Connection[Any], body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    """`email` of the user, made if there is none, and the `path` of the page to begin with.

    With `organization_id` the user gets the `role` there; without, a new user is an owner of the installation.
    """
    fields = Fields(root_object(body, "sign_in_link"))
    email = fields.text("email", mandatory=True) or ""
    if email and (code := users.email_problem(email)):
        fields.refuse("email", code)
    role = fields.choice("role", users.ROLES) or "admin"
    organization_id = _organization_id(conn, fields)
    if organization_id is None and role != "admin":
        fields.refuse("organization_id", "value_is_mandatory")
    path = fields.text("path") or "/app"
    if users.local_path(path) != path:
        fields.refuse("path", "value_is_invalid")
    fields.check()
    token = usecase.add_sign_in_link(
        conn, email=email, organization_id=organization_id, role=role, path=path, now=system_now()
    )
    return {"sign_in_link": SignInLink(email=email, path=f"/app/link/{token}")}


def _organization_id(conn: Connection[Any], fields: Fields) -> UUID | None:
    text = fields.text("organization_id")
    if text is None:
        return None
    wanted = parse_uuid(text)
    found = organizations.by_id(conn, wanted) if wanted else None
    if found is None:
        fields.refuse("organization_id", "organization_not_found")
    return found.id if found else None
