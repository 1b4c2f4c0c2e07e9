"""Drafts on the page of an invoice: Refresh and Finalize, for those who may."""

from __future__ import annotations

import psycopg
import pytest

from permille.api import charges as api_charges, invoices as api_invoices
from permille.store import users

from .conftest import START, join, text_of

LATE = {"model": "8K", "type": "output", "tokens": 20_000}


@pytest.fixture
def draft(browser, gpt4, send):
    """October as a draft, and an event of October that came after it was made."""
    browser.sent("/settings", {"invoice_grace_period": "3"})
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    query = "select id, status from invoice where organization_id = %s"
    invoice_id, status = browser.row(query, browser.organization.id)
    assert status == "draft"
    return str(invoice_id)


def invoice_of(api, invoice_id):
    return api(api_invoices.show_invoice, lago_id=invoice_id)["invoice"]


def become(browser, role):
    """Give the user of the browser another role."""
    query = "select user_id from membership where organization_id = %s"
    (user_id,) = browser.row(query, browser.organization.id)
    with psycopg.connect(browser.dsn) as conn:
        users.change_role(conn, user_id=user_id, organization_id=browser.organization.id, role=role)


def test_a_draft_is_priced_again(browser, api, draft, send):
    assert invoice_of(api, draft)["fees_amount_cents"] == 60
    send("gpt_4_tokens", "acme-1", START, **LATE)
    page = browser.ok(f"/invoices/{draft}")
    assert f'action="/app/invoices/{draft}/refresh"' in page
    assert browser.sent(f"/invoices/{draft}/refresh") == f"/app/invoices/{draft}?said=refreshed"
    found = invoice_of(api, draft)
    assert (found["status"], found["fees_amount_cents"]) == ("draft", 180)
    assert "Priced again" in text_of(browser.ok(f"/invoices/{draft}", said="refreshed"))
    assert "refreshed invoice" in text_of(browser.ok("/audit-log"))


@pytest.mark.parametrize("role", ["admin", "finance"])
def test_a_draft_becomes_final_and_stays_as_it_is(browser, api, draft, role):
    become(browser, role)
    assert browser.sent(f"/invoices/{draft}/finalize") == f"/app/invoices/{draft}?said=finalized"
    found = invoice_of(api, draft)
    assert found["status"] == "finalized"
    assert found["number"]
    page = browser.ok(f"/invoices/{draft}", said="finalized")
    assert "The invoice is final." in text_of(page)
    assert "/finalize" not in page
    assert "/refresh" not in page
    assert f"finalized invoice {draft}" in text_of(browser.ok("/audit-log"))
    for verb in ("refresh", "finalize"):
        words = text_of(browser.refused(f"/invoices/{draft}/{verb}"))
        assert "The invoice is no draft any more: it stays as it is." in words
    assert invoice_of(api, draft) == found


def test_a_reader_has_no_buttons(browser, api, draft):
    become(browser, "read_only")
    page = browser.ok(f"/invoices/{draft}")
    assert "/finalize" not in page
    assert "/refresh" not in page
    for verb in ("refresh", "finalize"):
        assert browser.post(f"/invoices/{draft}/{verb}").status_code == 403
    assert invoice_of(api, draft)["status"] == "draft"


def test_drafts_of_others_are_not_to_be_seen(server, draft):
    for verb in ("refresh", "finalize"):
        assert join(server).post(f"/invoices/{draft}/{verb}").status_code == 404


def test_usage_without_a_price_refuses_in_words(browser, api, draft, send):
    charge = {"charge": {"unlisted_values": "held"}}
    api(api_charges.update_charge, charge, code="openai-gpt-4", charge_code="gpt_4_tokens")
    send("gpt_4_tokens", "acme-1", START, model="new", type="output", tokens=1)
    words = text_of(browser.refused(f"/invoices/{draft}/finalize"))
    assert "Usage on it has no price yet" in words
    assert invoice_of(api, draft)["status"] == "draft"
