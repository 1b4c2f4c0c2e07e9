"""Webhook endpoints. semantics-billing.md sections 9.1 and 11.10."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from permille.api.http import Call
from permille.api.render import instant
from permille.api.validation import INVALID, MANDATORY, Fields, parse_uuid
from permille.core.errors import Invalid, NotFound
from permille.store import locks, webhook_endpoints
from permille.store.webhook_endpoints import WebhookEndpoint

ENDPOINTS_MAX = 10
URL_MAX = 2_000
ALGORITHMS = ("jwt", "hmac")
EVERYTHING = ["*"]


def create_webhook_endpoint(call: Call) -> dict[str, Any]:
    """POST /webhook_endpoints."""
    fields = Fields(call.root("webhook_endpoint"))
    columns = _columns(fields)
    if "webhook_url" not in columns:
        fields.refuse("webhook_url", MANDATORY)
    locks.change_webhook_endpoints(call.conn, call.organization.id)
    known = webhook_endpoints.all_of(call.conn, call.organization.id)
    if len(known) >= ENDPOINTS_MAX:
        fields.refuse("base", "exceeded_limit")
    if any(other.webhook_url == columns.get("webhook_url") for other in known):
        fields.refuse("webhook_url", "value_already_exist")
    fields.check()
    made = webhook_endpoints.add(
        call.conn, organization_id=call.organization.id, columns=columns, now=call.now
    )
    return {"webhook_endpoint": _rendered(call, made)}


def _columns(fields: Fields) -> dict[str, Any]:
    """The columns that the request sets, by name."""
    columns: dict[str, Any] = {}
    if fields.has("webhook_url"):
        columns["webhook_url"] = read_url(fields)
    if (algorithm := fields.choice("signature_algo", ALGORITHMS)) is not None:
        columns["signature_algo"] = algorithm
    if fields.has("name"):
        columns["name"] = fields.text("name")
    if fields.has("event_types"):
        types = fields.texts("event_types")
        columns["event_types"] = None if types == EVERYTHING else types
        if any(kind not in EVENT_TYPES for kind in columns["event_types"] or ()):
            fields.refuse("event_types", INVALID)
    return columns


def read_url(fields: Fields) -> str:
    """An absolute http or https address in ASCII."""
    url = fields.text("webhook_url", mandatory=True, limit=URL_MAX) or ""
    if url and not is_url(url):
        fields.refuse("webhook_url", "url_invalid")
    return url


def is_url(text: str) -> bool:
    """Whether it is an absolute http(s) address that can be sent on the wire as it is."""
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    printable = text.isascii() and text.isprintable() and " " not in text
    return printable and has_port and parts.scheme in ("http", "https") and bool(parts.hostname)


def list_webhook_endpoints(call: Call) -> dict[str, Any]:
    """GET /webhook_endpoints, newest first."""
    rows = webhook_endpoints.all_of(call.conn, call.organization.id)
    page = call.page()
    shown = rows[page.offset : page.offset + page.per_page]
    return {
        "webhook_endpoints": [render_webhook_endpoint(row) for row in shown],
        "meta": page.meta(len(rows)),
    }


def show_webhook_endpoint(call: Call) -> dict[str, Any]:
    """GET /webhook_endpoints/{lago_id}."""
    return {"webhook_endpoint": render_webhook_endpoint(_endpoint(call))}


def update_webhook_endpoint(call: Call) -> dict[str, Any]:
    """PUT /webhook_endpoints/{lago_id}."""
    locks.change_webhook_endpoints(call.conn, call.organization.id)
    before = _endpoint(call)
    fields = Fields(call.root("webhook_endpoint"))
    columns = _columns(fields)
    url = columns.get("webhook_url", before.webhook_url)
    known = webhook_endpoints.all_of(call.conn, call.organization.id)
    if any(other.webhook_url == url for other in known if other.id != before.id):
        fields.refuse("webhook_url", "value_already_exist")
    fields.check()
    webhook_endpoints.update(call.conn, endpoint_id=before.id, columns=columns, now=call.now)
    return {"webhook_endpoint": render_webhook_endpoint(_endpoint(call))}


def delete_webhook_endpoint(call: Call) -> dict[str, Any]:
    """DELETE /webhook_endpoints/{lago_id}."""
    gone = _endpoint(call)
    webhook_endpoints.delete(call.conn, gone.id)
    return {"webhook_endpoint": render_webhook_endpoint(gone)}


def _endpoint(call: Call) -> WebhookEndpoint:
    endpoint_id = parse_uuid(call.path["lago_id"])
    found = endpoint_id and webhook_endpoints.by_id(call.conn, call.organization.id, endpoint_id)
    if not found:
        raise NotFound("webhook_endpoint")
    return found


def render_webhook_endpoint(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "lago_id": str(endpoint.id),
        "lago_organization_id": str(endpoint.organization_id),
        "webhook_url": endpoint.webhook_url,
        "signature_algo": endpoint.signature_algo,
        "name": endpoint.name,
        "event_types": endpoint.event_types,
        "created_at": instant(endpoint.created_at),
    }
