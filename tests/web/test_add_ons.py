"""The pages of add-ons."""

from __future__ import annotations

from permille.api import add_ons as api_add_ons, taxes as api_taxes

from .conftest import sent_by, text_of

SETUP = {"name": "Setup", "code": "setup", "amount": "120.5", "amount_currency": "EUR"}


def test_an_add_on_is_made_changed_and_deleted(browser, api):
    assert "/app/add-ons" in browser.ok("/plans")
    assert "No add-ons yet" in browser.ok("/add-ons")
    api(api_taxes.create_tax, {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
    form = {**SETUP, "add_on_taxes": "yes", "add_on_tax": "vat"}
    assert browser.sent("/new-add-on", form) == "/app/add-ons?said=created"
    assert "€120.50" in text_of(browser.ok("/add-ons"))
    made = api(api_add_ons.show_add_on, code="setup")["add_on"]
    assert made["amount_cents"] == 12_050
    browser.sent("/edit-add-on/setup", {**sent_by(browser.ok("/edit-add-on/setup")), "add_on_tax": "vat"})
    assert api(api_add_ons.show_add_on, code="setup")["add_on"] == made, "saved as it is, nothing changes"
    browser.sent("/edit-add-on/setup", {**SETUP, "amount": "1"})
    assert api(api_add_ons.show_add_on, code="setup")["add_on"]["amount_cents"] == 100
    assert browser.sent("/delete-add-on/setup") == "/app/add-ons?said=deleted"
    assert "Setup" not in text_of(browser.ok("/add-ons"))


def test_what_is_wrong_is_said_at_its_field(browser, api):
    page = browser.refused("/new-add-on", {**SETUP, "amount": "much", "name": ""})
    assert 'id="amount-error"' in page
    assert 'id="name-error"' in page
