"""For programmers: API keys, shown once, webhook endpoints with their log and replay, and the key of signatures."""

from __future__ import annotations

from typing import Any

from permille.api import organizations as keys_api, webhook_endpoints as api
from permille.api.validation import parse_uuid
from permille.api.webhook_endpoints import EVENT_TYPES
from permille.core.errors import NotFound
from permille.store import organizations, webhook_log
from permille.web.visit import ADMINS, Done, Page, Visit


def _path(visit: Visit, **more: str) -> dict[str, str]:
    return {"organization_id": str(visit.here.id), **more}


def overview(visit: Visit) -> Page:
    """GET /app/developers."""
    page = visit.call(query=visit.page_query()).page()
    status = visit.query.get("status", "")
    log, total = webhook_log.listing(
        visit.conn,
        visit.here.id,
        status=status if status in webhook_log.STATUSES else None,
        limit=page.per_page,
        offset=page.offset,
    )
    context: dict[str, Any] = {
        "keys": keys_api.list_api_keys(visit.conn, None, _path(visit))["api_keys"],
        "endpoints": api.list_webhook_endpoints(visit.call())["webhook_endpoints"],
        "event_types": sorted(EVENT_TYPES),
        "log": log,
        "meta": page.meta(total),
        "status_wanted": status,
        "statuses": webhook_log.STATUSES,
        "base_url": visit.engine.config.base_url,
        "may_keys": visit.may(ADMINS),
        "hmac_key": visit.here.hmac_key if visit.may(ADMINS) else None,
    }
    return Page(template="developers.html", context=context)


def create_key(visit: Visit) -> Done:
    """POST /app/api-keys: the key is shown, this once."""
    body = {"api_key": {"name": visit.form.get("key_name")}}
    made = keys_api.create_api_key(visit.conn, body, _path(visit))["api_key"]
    context = {
        "heading": f"API key “{made.name}”",
        "text": "It is shown this once: only a digest of it is kept.",
        "secret": made.api_key,
        "next": "/app/developers",
    }
    page = Page(template="secret.html", context=context)
    return Done(action="created API key", subject=made.name, page=page)


def revoke_key(visit: Visit) -> Done:
    """POST /app/api-keys/{key_id}/revoke."""
    keys_api.revoke_api_key(visit.conn, None, _path(visit, key_id=visit.path["key_id"]))
    return Done(action="revoked API key", subject=visit.path["key_id"], to="/app/developers?said=deleted")


def roll_hmac_key(visit: Visit) -> Done:
    """POST /app/hmac-key/roll: the new key is shown; the audit log never has it."""
    key = organizations.roll_hmac_key(visit.conn, organization_id=visit.here.id, now=visit.now)
    context = {
        "heading": "The new HMAC key",
        "text": "Webhooks are signed with it from now on, those that are sent again too: give it to every receiver that"
        " checks HMAC signatures. The old key is gone.",
        "secret": key,
        "next": "/app/developers",
    }
    page = Page(template="secret.html", context=context)
    return Done(action="rolled HMAC key", subject=visit.here.name, page=page)


def create_endpoint(visit: Visit) -> Done:
    """POST /app/developers."""
    form = visit.form
    body: dict[str, Any] = {
        **form.filled("name", "signature_algo"),
        "webhook_url": form.get("webhook_url"),
        "event_types": form.all("event_types") or ["*"],
    }
    made = api.create_webhook_endpoint(visit.call(body={"webhook_endpoint": body}))["webhook_endpoint"]
    to = "/app/developers?said=created"
    return Done(action="created webhook endpoint", subject=made.webhook_url, to=to, details=body)


def delete_endpoint(visit: Visit) -> Done:
    """POST /app/webhook-endpoints/{lago_id}/delete."""
    gone = api.delete_webhook_endpoint(visit.call(path=visit.path))["webhook_endpoint"]
    to = "/app/developers?said=deleted"
    return Done(action="deleted webhook endpoint", subject=gone.webhook_url, to=to)


def replay(visit: Visit) -> Done:
    """POST /app/webhooks/{webhook_id}/replay."""
    webhook_id = parse_uuid(visit.path["webhook_id"])
    if webhook_id is None or not webhook_log.replay(visit.conn, visit.here.id, webhook_id):
        raise NotFound("webhook")
    to = "/app/developers?said=replayed"
    return Done(action="replayed webhook", subject=str(webhook_id), to=to)
