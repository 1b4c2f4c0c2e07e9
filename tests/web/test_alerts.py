"""Alerts of a subscription in the web admin."""

from __future__ import annotations

from datetime import timedelta

from permille.api import organizations as api_organizations

from .conftest import START, text_of

FORM = {
    "code": "half",
    "name": "Half of it",
    "alert_type": "current_usage_amount",
    "value1": "0.5",
    "code1": "warn",
    "step": "0.25",
}


def test_an_alert_is_created_fires_and_is_deleted(browser, api, gpt4, send):
    assert 'href="/app/alerts/acme-1"' in browser.ok("/customers/acme", tab="subscriptions")
    assert "No alerts yet." in text_of(browser.ok("/alerts/acme-1"))
    assert browser.sent("/alerts/acme-1", FORM) == "/app/alerts/acme-1?said=created"
    words = text_of(browser.ok("/alerts/acme-1"))
    assert "Half of it half Usage of the period, as an amount $0.50 (warn) then every $0.25 $0.00" in words
    send("gpt_4_tokens", "acme-1", START, model="8K", type="output", tokens=10_000)
    later = (START + timedelta(minutes=1)).isoformat()
    api(api_organizations.move_test_clock, {"test_clock": {"now": later}})
    assert "half $0.00 $0.60 $0.50 (warn)" in text_of(browser.ok("/alerts/acme-1"))
    browser.sent("/delete-alert/acme-1", {"code": "half"})
    words = text_of(browser.ok("/alerts/acme-1"))
    assert "No alerts yet." in words
    assert "$0.50 (warn)" in words, "what was fired stays"
    assert "deleted alert" in text_of(browser.ok("/audit-log"))


def test_what_is_wrong_is_said_and_kept(browser, gpt4):
    words = browser.refused("/alerts/acme-1", {**FORM, "value1": "much", "alert_type": "nothing"})
    assert 'value="half"' in words
    page = text_of(browser.refused("/alerts/acme-1", {**FORM, "code": "", "value1": "", "step": ""}))
    assert "Thresholds : Fill this in." in page
    units = {**FORM, "alert_type": "billable_metric_current_usage_units", "value1": "1.5"}
    assert "Metric : Fill this in." in text_of(browser.refused("/alerts/acme-1", units))
    browser.sent("/alerts/acme-1", {**units, "billable_metric_code": "gpt_4_tokens"})
    assert "Usage of a metric, in units: GPT-4 tokens 1.5 (warn)" in text_of(browser.ok("/alerts/acme-1"))
