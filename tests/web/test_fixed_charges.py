"""The pages of fixed charges: in a plan's page and forms, and on an invoice."""

from __future__ import annotations

from permille.api import customers as api_customers, fixed_charges as api_fixed, subscriptions as api_subs

from .conftest import text_of
from .test_add_ons import SETUP

PLAN = {"name": "Pro", "code": "pro", "interval": "monthly", "amount_currency": "EUR", "amount": "0"}


def test_a_fixed_charge_is_added_shown_billed_changed_and_taken_away(browser, api):
    browser.sent("/new-plan", PLAN)
    assert "there is none yet" in text_of(browser.ok("/add-fixed-charge/pro"))
    browser.sent("/new-add-on", SETUP)
    form = {"add_on_code": "setup", "units": "3", "amount": "12.5", "pay_in_advance": "on"}
    assert browser.sent("/add-fixed-charge/pro", form) == "/app/plans/pro?said=saved"
    assert "Setup 3 €12.50 each in advance" in text_of(browser.ok("/plans/pro"))
    api(api_customers.upsert_customer, {"customer": {"external_id": "acme"}})
    body = {"external_customer_id": "acme", "plan_code": "pro", "external_id": "acme-1"}
    api(api_subs.create_subscription, {"subscription": body})
    invoice = browser.row("select id from invoice where organization_id = %s", browser.organization.id)[0]
    shown = text_of(browser.ok(f"/invoices/{invoice}"))
    assert "Setup" in shown
    assert "€37.50" in shown
    assert "Setup 3 €12.50" in text_of(browser.ok("/own-plan/acme-1"))
    edit = "/edit-fixed-charge/pro?charge=setup"
    browser.sent(edit, {"units": "5", "amount": "10", "at_once": "on"})
    charge = api(api_fixed.show_fixed_charge, code="pro", fixed_charge_code="setup")["fixed_charge"]
    assert (float(charge["units"]), charge["properties"]["amount"]) == (5, "10")
    amounts = browser.row(
        "select array_agg(amount_cents order by amount_cents) from fee where organization_id = %s",
        browser.organization.id,
    )
    assert amounts == ([2_000, 3_750],)
    browser.sent("/delete-fixed-charge/pro?charge=setup")
    assert "Fixed charges" not in text_of(browser.ok("/plans/pro"))


def test_what_is_wrong_is_said_at_its_field(browser, api):
    browser.sent("/new-plan", PLAN)
    browser.sent("/new-add-on", SETUP)
    page = browser.refused("/add-fixed-charge/pro", {"add_on_code": "setup", "units": "many", "amount": "x"})
    assert 'id="units-error"' in page
    assert 'id="amount-error"' in page
