"""API keys, webhook endpoints, the delivery log."""

from __future__ import annotations

import re

import psycopg
import pytest

from permille.clock import system_now
from permille.store import api_keys, webhooks

from .conftest import join, text_of


def test_a_key_is_shown_once_and_revoked(browser):
    answer = browser.post("/api-keys", {"key_name": "production"})
    assert answer.status_code == 200
    found = re.search(r"<code>(pm_[^<]+)</code>", answer.text)
    assert found is not None
    with psycopg.connect(browser.dsn) as conn:
        known = api_keys.by_secret(conn, found.group(1), now=system_now())
        assert known is not None
        assert known.organization.id == browser.organization.id
    page = browser.ok("/developers")
    assert found.group(1) not in page
    assert "production" in page
    (key_id,) = re.findall(r'action="/app/api-keys/([^/]+)/revoke"', page)
    browser.sent(f"/api-keys/{key_id}/revoke")
    with psycopg.connect(browser.dsn) as conn:
        assert api_keys.by_secret(conn, found.group(1), now=system_now()) is None


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
        webhooks.enqueue_of(
            conn, "invoice.created", browser.organization.id, [browser.organization.id], now=system_now()
        )
        (rendered,) = conn.execute(
            "select id from webhook where organization_id = %s and webhook_type = 'invoice.created'",
            [browser.organization.id],
        ).fetchall()
        webhooks.freeze(conn, {rendered[0]: b'{"invoice":{"number":"BOLT-001"}}'})
        conn.execute(
            "update webhook set status = 'failed', http_status = 500, response = 'no', attempts = 5"
            " where organization_id = %s and webhook_type = 'customer.created'",
            [browser.organization.id],
        )
    page = browser.ok("/developers", status="failed")
    words = text_of(page)
    assert "customer.created https://example.com/hooks failed 5 500" in words
    assert "<b>Acme</b>" not in page
    assert "BOLT-001" in text_of(browser.ok("/developers"))
    assert "Nothing was sent" in text_of(browser.ok("/developers", status="succeeded"))
    (webhook_id,) = re.findall(r'action="/app/webhooks/([^/]+)/replay"', page)
    assert join(server).post(f"/webhooks/{webhook_id}/replay").status_code == 404
    browser.sent(f"/webhooks/{webhook_id}/replay")
    query = "select status, attempts from webhook where id = %s"
    assert browser.row(query, webhook_id) == ("pending", 0)


def test_admins_see_and_roll_the_hmac_key(browser):
    query = "select hmac_key from organization where id = %s"
    (old,) = browser.row(query, browser.organization.id)
    assert f"<code>{old}</code>" in browser.ok("/developers")
    answer = browser.post("/hmac-key/roll")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    (new,) = browser.row(query, browser.organization.id)
    assert len(new) >= 43
    assert new != old
    assert f"<code>{new}</code>" in answer.text
    assert "give it to every receiver" in text_of(answer.text)
    page = browser.ok("/developers")
    assert new in page
    assert old not in page
    log = browser.ok("/audit-log")
    assert "rolled HMAC key" in text_of(log)
    assert new not in log


@pytest.mark.parametrize("role", ["finance", "read_only"])
def test_only_admins_see_or_roll_the_hmac_key(server, role):
    member = join(server, role=role)
    query = "select hmac_key from organization where id = %s"
    (key,) = member.row(query, member.organization.id)
    page = member.ok("/developers")
    assert key not in page
    assert "HMAC key" not in text_of(page)
    assert member.post("/hmac-key/roll").status_code == 403
    assert member.row(query, member.organization.id) == (key,)


def test_a_rolled_key_is_of_one_organization(server, browser):
    other = join(server)
    query = "select hmac_key from organization where id = %s"
    before = other.row(query, other.organization.id)
    browser.post("/hmac-key/roll")
    assert other.row(query, other.organization.id) == before


def test_only_admins_change_anything(reader):
    assert reader.post("/api-keys", {"key_name": "x"}).status_code == 403
    assert reader.post("/developers", {"webhook_url": "https://example.com"}).status_code == 403
    words = text_of(reader.ok("/developers"))
    assert "Make a key" not in words
    assert "Add an endpoint" not in words
