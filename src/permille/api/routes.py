"""Every path of the API and the function that answers it."""

from __future__ import annotations

from starlette.routing import Route

from permille.api import organizations
from permille.api.http import AdminEndpoint, Endpoint, Engine, admin_route, route

API = "/api/v1"
ADMIN = "/admin/v1"

ENDPOINTS: list[tuple[str, str, Endpoint]] = [
    ("GET", "/test_clock", organizations.show_test_clock),
    ("PUT", "/test_clock", organizations.move_test_clock),
]

ADMIN_ENDPOINTS: list[tuple[str, str, AdminEndpoint]] = [
    ("POST", "/organizations", organizations.create_organization),
    ("GET", "/organizations", organizations.list_organizations),
    ("POST", "/organizations/{organization_id}/api_keys", organizations.create_api_key),
    ("GET", "/organizations/{organization_id}/api_keys", organizations.list_api_keys),
    ("DELETE", "/organizations/{organization_id}/api_keys/{key_id}", organizations.revoke_api_key),
]


def all_routes(engine: Engine) -> list[Route]:
    return [route(engine, method, API + path, endpoint) for method, path, endpoint in ENDPOINTS] + [
        admin_route(engine, method, ADMIN + path, endpoint) for method, path, endpoint in ADMIN_ENDPOINTS
    ]
