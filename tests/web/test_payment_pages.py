"""Receivables in the web admin: a payment is recorded, what is overdue is requested, campaigns and entities are made."""

from __future__ import annotations

import re

import pytest

from permille.api import customers, plans, subscriptions

from .conftest import text_of


@pytest.fixture
def invoice(browser, gpt4, send):
    """An invoice over 0.60 that is overdue."""
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    browser.sent("/test-clock", {"to": "other", "now": "2026-11-20 00:00:00", "back": "/app"})
    (invoice_id,) = browser.row("select id from invoice where organization_id = %s", browser.organization.id)
    return invoice_id


def test_a_payment_is_recorded_and_what_is_overdue_requested(browser, invoice):
    assert str(invoice) in browser.ok("/invoices", payment_overdue="true")
    assert "overdue" in text_of(browser.ok(f"/invoices/{invoice}"))
    browser.sent(f"/invoices/{invoice}/request")
    form = browser.ok(f"/record-payment/{invoice}")
    assert "$0.60 of $0.60 are still due" in text_of(form)
    assert 'value="0.60"' in form
    wrong = {"amount": "0.61", "reference": "", "paid_at": "2026-11-19"}
    words = text_of(browser.refused(f"/record-payment/{invoice}", wrong))
    assert "Fill this in." in words
    wrong["reference"] = "bank 1"
    for amount, said in (("0", "Give an amount above 0."), ("soon", "Give a number, like 1234.50.")):
        words = text_of(browser.refused(f"/record-payment/{invoice}", {**wrong, "amount": amount}))
        assert f"Amount : {said}" in words
        assert words.count(said) == 2, "above and at the field"
        assert "can't be used" not in words
    assert "This is too large or too small." in text_of(browser.refused(f"/record-payment/{invoice}", wrong))
    browser.sent(f"/record-payment/{invoice}", {**wrong, "amount": "0.60"})
    assert "Record payment" not in browser.ok(f"/invoices/{invoice}")
    words = text_of(browser.ok("/payments"))
    assert "bank 1 $0.60" in words
    assert "succeeded $0.60" in words
    assert str(invoice) not in browser.ok("/invoices", payment_overdue="true")


def test_a_campaign_is_made_changed_and_applied_to_a_new_billing_entity(browser):
    campaign = {
        "name": "Late payers",
        "code": "late",
        "thresholds": "EUR 150\nusd 20.5",
        "max_attempts": "3",
        "days_between_attempts": "7",
    }
    words = text_of(browser.refused("/new-dunning-campaign", {**campaign, "thresholds": "EUR"}))
    assert "Overdue amounts from which on customers are asked" in words.split("This could not be saved:")[1]
    browser.sent("/new-dunning-campaign", campaign)
    words = text_of(browser.ok("/dunning"))
    assert "€150.00, $20.50 3 times, 7 days apart" in words
    form = browser.ok("/edit-dunning-campaign/late")
    assert "USD 20.50" in form
    browser.sent("/edit-dunning-campaign/late", {**campaign, "max_attempts": "4"})
    assert "4 times" in text_of(browser.ok("/dunning"))
    entity = {
        "name": "Second Ltd",
        "code": "second",
        "document_number_prefix": "sec",
        "net_payment_term": "9",
    }
    words = text_of(
        browser.refused("/new-billing-entity", {**entity, "net_payment_term": "9.5", "timezone": "CET/DST"})
    )
    assert "Days to pay : Give a whole number, like 30." in words
    assert "Timezone : Give the name of a timezone, like Europe/Paris." in words
    browser.sent("/new-billing-entity", {**entity, "dunning_campaign_code": "late"})
    assert "Second Ltd second SEC, for each customer 9 days UTC" in text_of(browser.ok("/billing-entities"))
    assert '<option value="late" selected>' in browser.ok("/edit-billing-entity/second")
    browser.sent(
        "/edit-billing-entity/second", {**entity, "dunning_campaign_code": "", "brand_color": "#1f4e79"}
    )
    assert 'value="#1f4e79"' in browser.ok("/edit-billing-entity/second")
    assert 'id="brand_color-error"' in browser.refused(
        "/edit-billing-entity/second", {**entity, "brand_color": "#ffff00"}
    )
    browser.sent("/edit-billing-entity/second", {**entity, "brand_color": ""})
    assert 'value="#1f4e79"' not in browser.ok("/edit-billing-entity/second")
    assert '<option value="late" selected>' not in browser.ok("/edit-billing-entity/second")
    browser.sent("/delete-dunning-campaign/late")
    assert "No campaigns yet" in text_of(browser.ok("/dunning"))


def test_a_subscription_that_waits_for_its_payment_is_paid_on_its_page(browser, api):
    api(customers.upsert_customer, {"customer": {"external_id": "cus"}})
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 3_100, "amount_currency": "EUR"}
    api(plans.create_plan, {"plan": {**plan, "pay_in_advance": True}})
    form = {"plan_code": "p", "external_id": "sub", "waits_for_payment": "on", "timeout_hours": "24"}
    browser.sent("/subscribe/cus", form)
    browser.sent("/subscribe/cus", {**form, "external_id": "other"})
    page = browser.ok("/customers/cus", tab="subscriptions")
    assert "Runs once its first invoice is paid, until 2 Oct 2026." in text_of(page)
    browser.sent("/end-subscription/other", {"status": "incomplete"})
    (link,) = re.findall(r"/app(/record-payment/[^\"]+)", browser.ok("/customers/cus", tab="subscriptions"))
    assert "31.00" in text_of(browser.ok(link))
    sent = {"amount": "31.00", "reference": "bank", "paid_at": "2026-10-01"}
    assert browser.sent(link, sent) == "/app/payments?said=saved"
    found = api(subscriptions.show_subscription, external_id="sub")["subscription"]
    assert (found["status"], found["activation_rules"][0]["status"]) == ("active", "satisfied")
    assert "Runs once" not in text_of(browser.ok("/customers/cus", tab="subscriptions"))
