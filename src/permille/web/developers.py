"""For programmers: API keys, shown once, webhook endpoints with their log and replay, and the key of signatures."""

from __future__ import annotations

from typing import Any

from permille.api.organizations import read_key_name, render_keys
from permille.api.validation import Fields, parse_uuid
from permille.api.webhook_endpoints import EVENT_TYPES, read_endpoint, render_webhook_endpoint
from permille.store import organizations, webhook_endpoints, webhook_log
from permille.usecases import organizations as usecase, webhook_endpoints as endpoint_usecase
from permille.web.visit import ADMINS, Done, HtmlPage, Visit


def overview(visit: Visit) -> HtmlPage:
    """GET /app/developers."""
    page = visit.page()
    status = visit.query.get("status", "")
    log, total = webhook_log.listing(
        visit.conn,
        visit.here.id,
        status=status if status in webhook_log.STATUSES else None,
        limit=page.per_page,
        offset=page.offset,
    )
    endpoints = webhook_endpoints.all_of(visit.conn, visit.here.id)
    context: dict[str, Any] = {
        "keys": render_keys(organizations.keys(visit.conn, visit.here.id)),
        "endpoints": [render_webhook_endpoint(each) for each in endpoints],
        "event_types": sorted(EVENT_TYPES),
        "log": log,
        "meta": page.meta(total),
        "status_wanted": status,
        "statuses": webhook_log.STATUSES,
        "base_url": visit.engine.config.base_url,
        "may_keys": visit.may(ADMINS),
        "hmac_key": visit.here.hmac_key if visit.may(ADMINS) else None,
    }
    return HtmlPage(template="developers.html", context=context)


def create_key(visit: Visit) -> Done:
    """POST /app/api-keys: the key is shown, this once."""
    name = read_key_name(Fields({"name": visit.form.get("key_name")}))
    _, key = usecase.add_key(visit.conn, visit.here.id, name=name, now=visit.system_now)
    context = {
        "heading": f"API key “{name}”",
        "text": "It is shown this once: only a digest of it is kept.",
        "secret": key.secret,
        "next": "/app/developers",
    }
    page = HtmlPage(template="secret.html", context=context)
    return Done(action="created API key", subject=name, page=page)


def revoke_key(visit: Visit) -> Done:
    """POST /app/api-keys/{key_id}/revoke."""
    key_id = parse_uuid(visit.path["key_id"])
    usecase.revoke_key(visit.conn, visit.here.id, key_id, now=visit.system_now)
    return Done(action="revoked API key", subject=visit.path["key_id"], to="/app/developers?said=deleted")


def roll_hmac_key(visit: Visit) -> Done:
    """POST /app/hmac-key/roll: the new key is shown; the audit log never has it."""
    key = usecase.roll_hmac_key(visit.conn, visit.here.id, now=visit.now)
    context = {
        "heading": "The new HMAC key",
        "text": "Webhooks are signed with it from now on, those that are sent again too: give it to every receiver that"
        " checks HMAC signatures. The old key is gone.",
        "secret": key,
        "next": "/app/developers",
    }
    page = HtmlPage(template="secret.html", context=context)
    return Done(action="rolled HMAC key", subject=visit.here.name, page=page)


def create_endpoint(visit: Visit) -> Done:
    """POST /app/developers."""
    form = visit.form
    body: dict[str, Any] = {
        **form.filled("name", "signature_algo"),
        "webhook_url": form.get("webhook_url"),
        "event_types": form.all("event_types") or ["*"],
    }
    columns = read_endpoint(visit.conn, visit.here, Fields(body))
    made = endpoint_usecase.add(visit.conn, visit.here.id, columns, now=visit.now)
    to = "/app/developers?said=created"
    return Done(action="created webhook endpoint", subject=made.webhook_url, to=to, details=body)


def delete_endpoint(visit: Visit) -> Done:
    """POST /app/webhook-endpoints/{lago_id}/delete."""
    gone = endpoint_usecase.remove(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    to = "/app/developers?said=deleted"
    return Done(action="deleted webhook endpoint", subject=gone.webhook_url, to=to)


def replay(visit: Visit) -> Done:
    """POST /app/webhooks/{webhook_id}/replay."""
    webhook_id = parse_uuid(visit.path["webhook_id"])
    endpoint_usecase.replay(visit.conn, visit.here.id, webhook_id)
    to = "/app/developers?said=replayed"
    return Done(action="replayed webhook", subject=str(webhook_id), to=to)
