"""The pages of coupons, and a customer's coupons."""

from __future__ import annotations

from permille.api import coupons as api_coupons

from .conftest import sent_by, text_of
from .test_metrics import TOKENS
from .test_plans import GRID

TENTH = {
    "name": "Tenth",
    "code": "tenth",
    "coupon_type": "percentage",
    "percentage_rate": "10",
    "frequency": "once",
}
AMOUNT = {
    "name": "Welcome",
    "code": "welcome",
    "coupon_type": "fixed_amount",
    "amount": "12.50",
    "amount_currency": "USD",
    "frequency": "recurring",
    "frequency_duration": "3",
    "reusable": "on",
    "expiration_at": "2030-01-31",
}


def test_a_coupon_is_made_given_seen_taken_and_deleted(browser, api, reader):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})
    browser.sent("/new-plan", GRID)
    assert "/app/coupons" in browser.ok("/plans")
    assert "No coupons yet" in browser.ok("/coupons")
    assert browser.sent("/new-coupon", {**AMOUNT, "plan": "payg"}) == "/app/coupons/welcome?said=created"
    made = api(api_coupons.show_coupon, code="welcome")["coupon"]
    assert (made["amount_cents"], made["plan_codes"], made["reusable"]) == (1_250, ["payg"], True)
    browser.sent(
        "/edit-coupon/welcome",
        {**sent_by(browser.ok("/edit-coupon/welcome")), "plan": "payg", "reusable": "on"},
    )
    assert api(api_coupons.show_coupon, code="welcome")["coupon"] == made, "saved as it is, nothing changes"
    assert "Welcome welcome $12.50 on 3 invoices payg" in text_of(browser.ok("/coupons"))
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    assert "No coupon yet" in browser.ok("/customers/acme", tab="coupons")
    browser.sent("/apply-coupon/acme", {"coupon_code": "welcome", "amount": "10", "frequency_duration": "2"})
    words = text_of(browser.ok("/customers/acme", tab="coupons"))
    assert "active $10.00 on 2 invoices 2 of 2 invoices" in words
    assert "acme" in text_of(browser.ok("/coupons/welcome"))
    assert "The customer has another coupon" in browser.refused(
        "/apply-coupon/acme", {"coupon_code": "welcome"}
    )
    assert 'name="coupon_type"' not in browser.ok("/edit-coupon/welcome"), "it is applied"
    browser.sent("/edit-coupon/welcome", {"name": "Hello", "expiration_at": ""})
    assert api(api_coupons.show_coupon, code="welcome")["coupon"]["expiration"] == "no_expiration"
    (applied_id,) = browser.row(
        "select id from applied_coupon where organization_id = %s", browser.organization.id
    )
    browser.sent("/end-coupon/acme", {"lago_id": str(applied_id)})
    assert "terminated" in text_of(browser.ok("/customers/acme", tab="coupons"))
    assert reader.post("/new-coupon", TENTH).status_code == 403
    assert browser.sent("/delete-coupon/welcome") == "/app/coupons?said=deleted"


def test_an_invoice_names_its_coupons(browser):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})
    browser.sent("/new-plan", {**GRID, "interval": "monthly", "amount": "50"})
    browser.sent("/new-coupon", TENTH)
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    browser.sent("/apply-coupon/acme", {"coupon_code": "tenth"})
    browser.sent(
        "/subscribe/acme", {"plan_code": "payg", "external_id": "acme-1", "billing_time": "anniversary"}
    )
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    found = browser.row(
        "select id, coupons_amount_cents from invoice where organization_id = %s", browser.organization.id
    )
    assert found[1] == 500
    assert "Coupon Tenth −$5.00" in text_of(browser.ok(f"/invoices/{found[0]}"))


def test_what_is_wrong_is_said_at_its_field(browser):
    page = browser.refused(
        "/new-coupon", {**TENTH, "percentage_rate": "", "name": "", "expiration_at": "2020-01-01"}
    )
    for name in ("percentage_rate", "name", "expiration_at"):
        assert f'id="{name}-error"' in page
