"""For programmers: API keys, shown once, webhook endpoints with their log and replay, and the key of signatures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from permille.api.organizations import read_key, render_keys
from permille.api.render import instant
from permille.api.validation import Fields, parse_uuid
from permille.api.webhook_endpoints import EVENT_TYPES, read_endpoint, render_webhook_endpoint
from permille.core.api_key import EVENTS_ONLY, READ_ONLY, RESOURCES, Mode, Permissions
from permille.store import api_keys, webhook_endpoints, webhook_log
from permille.store.api_keys import NewKey
from permille.usecases import organizations as usecase, webhook_endpoints as endpoint_usecase
from permille.web.visit import ADMINS, Done, Form, HtmlPage, Visit

DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 90, "year": 365}
"""In how many days a key may end."""


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
        "keys": render_keys(api_keys.of_organization(visit.conn, visit.here.id)),
        "endpoints": [render_webhook_endpoint(each) for each in endpoints],
        "event_types": sorted(EVENT_TYPES),
        "log": log,
        "meta": page.meta(total),
        "status_wanted": status,
        "statuses": webhook_log.STATUSES,
        "base_url": visit.engine.config.base_url,
        "may_keys": visit.may(ADMINS),
        "resources": [(each, each.replace("_", " ")) for each in RESOURCES],
        "now": instant(visit.system_now),
        "hmac_key": visit.here.hmac_key if visit.may(ADMINS) else None,
    }
    return HtmlPage(template="developers.html", context=context)


def create_key(visit: Visit) -> Done:
    """POST /app/api-keys: the key is shown, this once."""
    body = {"name": visit.form.get("key_name"), "permissions": _permissions(visit.form)}
    if days := DAYS.get(visit.form.get("ends_in"), 0):
        body["expires_at"] = instant(visit.system_now + timedelta(days=days))
    wanted = read_key(Fields(body), now=visit.system_now)
    key = usecase.add_key(visit.conn, visit.here.id, **wanted, now=visit.system_now)
    page = _shown_once(f"API key “{wanted['name']}”", "", key)
    return Done(
        action="created API key", subject=wanted["name"], details=body, page=page, to="/app/developers"
    )


def rotate_key(visit: Visit) -> Done:
    """POST /app/api-keys/{key_id}/rotate: a new key is shown, this once; the old one ends now or in some days."""
    key_id, days = parse_uuid(visit.path["key_id"]), DAYS.get(visit.form.get("ends_in"), 0)
    ends_at = visit.system_now + timedelta(days=days)
    key = usecase.rotate_key(visit.conn, visit.here.id, key_id, ends_at=ends_at, now=visit.system_now)
    until = f" The old one works until {ends_at:%d %B}." if days else " The old one is revoked."
    page = _shown_once("The new API key", until, key)
    details = {"old_key_ends_at": instant(ends_at)}
    return Done(
        action="rotated API key",
        subject=visit.path["key_id"],
        details=details,
        page=page,
        to="/app/developers",
    )


def _shown_once(heading: str, more: str, key: NewKey) -> HtmlPage:
    context = {
        "heading": heading,
        "text": f"It is shown this once: only a digest of it is kept.{more}",
        "secret": key.secret,
        "next": "/app/developers",
    }
    return HtmlPage(template="secret.html", context=context)


def _permissions(form: Form) -> Permissions | None:
    """What the form allows the key: everything, events, reading, or what is ticked."""
    if form.get("may") != "chosen":
        return {"events": EVENTS_ONLY, "read": READ_ONLY}.get(form.get("may"))
    found = {
        resource: [mode.value for mode in Mode if form.has(f"{mode.value}_{resource}")]
        for resource in RESOURCES
    }
    return {resource: modes for resource, modes in found.items() if modes}


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
    return Done(action="rolled HMAC key", subject=visit.here.name, page=page, to="/app/developers")


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
