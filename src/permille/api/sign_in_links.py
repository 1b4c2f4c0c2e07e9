"""POST /admin/v1/sign_in_links: a one-time link into the web admin, for whoever runs the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import Connection

from permille.api.http import root_object
from permille.api.validation import Fields
from permille.clock import system_now
from permille.store import users


def create_sign_in_link(conn: Connection[Any], body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    """`email` and `role` of the user, made if there is none, and the `path` of the page to begin with."""
    fields = Fields(root_object(body, "sign_in_link"))
    email = fields.text("email", mandatory=True) or ""
    if email and (code := users.email_problem(email)):
        fields.refuse("email", code)
    role = fields.choice("role", users.ROLES) or "admin"
    path = fields.text("path") or "/app"
    if users.local_path(path) != path:
        fields.refuse("path", "value_is_invalid")
    fields.check()
    token = users.add_sign_in_link(conn, email=email, role=role, path=path, now=system_now())
    return {"sign_in_link": {"email": email, "path": f"/app/link/{token}"}}
