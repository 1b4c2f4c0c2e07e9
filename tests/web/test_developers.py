"""API keys, webhook endpoints, the delivery log."""

from __future__ import annotations

import re

import psycopg

from permille.clock import system_now
from permille.store import organizations, webhooks

from .conftest import join, text_of


def test_a_key_is_shown_once_and_revoked(browser):
    answer = browser.post("/api-keys", {"key_name": "production"})
    assert answer.status_code == 200
    found = re.search(r"<code>(pm_[^<]+)</code>", answer.text)
    assert found is not None
    with psycopg.connect(browser.dsn) as conn:
        known = organizations.by_api_key(conn, found.group(1))
        assert known is not None
        assert known.id == browser.organization.id
    page = browser.ok("/developers")
    assert found.group(1) not in page
    assert "production" in page
    (key_id,) = re.findall(r'action="/app/api-keys/([^/]+)/revoke"', page)
    browser.sent(f"/api-keys/{key_id}/revoke")
    with psycopg.connect(browser.dsn) as conn:
        assert organizations.by_api_key(conn, found.group(1)) is None


def test_webhook_endpoints(browser):
    page = browser.refused("/developers", {"webhook_url": "ftp://x"})
    assert 'id="webhook_url-error"' in page
    form = {
        "webhook_url": "https://example.com/hooks",
        "signature_algo": "hmac",
        "event_types": ["invoice.created"],
    }
    browser.sent("/developers", form)
    page = browser.ok("/developers")
    assert "https://example.com/hooks invoice.created hmac" in text_of(page)
    (endpoint_id,) = re.findall(r'action="/app/webhook-endpoints/([^/]+)/delete"', page)
    browser.sent(f"/webhook-endpoints/{endpoint_id}/delete")
    assert "No endpoint yet" in text_of(browser.ok("/developers"))


def test_the_log_and_sending_again(browser, server):
    browser.sent("/developers", {"webhook_url": "https://example.com/hooks"})
    with psycopg.connect(browser.dsn) as conn:
        webhooks.enqueue(
            conn,
            organization_id=browser.organization.id,
            webhook_type="customer.created",
            object_type="customer",
            object_ids=[browser.organization.id],
            payload={"customer": {"name": "<b>Acme</b>"}},
            now=system_now(),
        )
        conn.execute(
            "update webhook set status = 'failed', http_status = 500, response = 'no', attempts = 5"
            " where organization_id = %s and webhook_type = 'customer.created'",
            [browser.organization.id],
        )
    page = browser.ok("/developers", status="failed")
    words = text_of(page)
    assert "customer.created https://example.com/hooks failed 5 500" in words
    assert "<b>Acme</b>" not in page
    assert "Nothing was sent" in text_of(browser.ok("/developers", status="succeeded"))
    (webhook_id,) = re.findall(r'action="/app/webhooks/([^/]+)/replay"', page)
    assert join(server).post(f"/webhooks/{webhook_id}/replay").status_code == 404
    browser.sent(f"/webhooks/{webhook_id}/replay")
    query = "select status, attempts from webhook where id = %s"
    assert browser.row(query, webhook_id) == ("pending", 0)


def test_only_admins_change_anything(reader):
    assert reader.post("/api-keys", {"key_name": "x"}).status_code == 403
    assert reader.post("/developers", {"webhook_url": "https://example.com"}).status_code == 403
    words = text_of(reader.ok("/developers"))
    assert "Make a key" not in words
    assert "Add an endpoint" not in words
