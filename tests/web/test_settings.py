"""Settings of the seller: what the form shows, saves, refuses, and who may change it."""

from __future__ import annotations

import pytest

from permille.api import billing_entities, organization_settings, taxes
from permille.web.settings import SECTIONS

from .conftest import join, text_of
from .test_plans import sent_by

SELLER = {
    "name": "Acme Tokens",
    "legal_name": "Acme Tokens GmbH",
    "legal_number": "HRB 1234",
    "tax_identification_number": "DE123456789",
    "email": "billing@acme.example",
    "address_line1": "Hauptstraße 1",
    "address_line2": "Hof",
    "zipcode": "10115",
    "city": "Berlin",
    "state": "Berlin",
    "country": "de",
    "default_currency": "EUR",
    "timezone": "Europe/Berlin",
    "net_payment_term": "30",
    "invoice_grace_period": "3",
    "finalize_zero_amount_invoice": "false",
    "eu_tax_management": "false",
    "subscription_invoice_issuing_date_anchor": "current_period_end",
    "subscription_invoice_issuing_date_adjustment": "keep_anchor",
    "document_number_prefix": "ACM",
    "document_numbering": "per_billing_entity",
    "document_locale": "de",
    "logo_url": "https://acme.example/logo.png",
    "brand_color": "#8a1c1c",
    "bank_details": "IBAN DE02\r\nBIC X",
    "reverse_charge_note": "VAT reversed",
    "invoice_footer": "Thank you",
    "email_settings": ["invoice.finalized", "payment_receipt.created"],
}
SAVED = {
    **SELLER,
    "country": "DE",
    "net_payment_term": 30,
    "invoice_grace_period": 3,
    "finalize_zero_amount_invoice": False,
    "eu_tax_management": False,
    "bank_details": "IBAN DE02\nBIC X",
}


def seller(api):
    return api(billing_entities.show_billing_entity, code="default")["billing_entity"]


def test_every_setting_of_the_api_is_in_the_form():
    names = {one.name for _, settings in SECTIONS for one in settings}
    assert names == set(SELLER)
    assert names == set(billing_entities.SAME_NAME) - {"code", "is_default"}
    assert set(organization_settings.SAME_NAME) <= names


def test_what_is_saved_comes_back_and_the_audit_log_says_what_changed(browser, api):
    assert browser.sent("/settings", SELLER) == "/app/settings?said=saved"
    found = seller(api)
    assert {name: found[name] for name in SAVED} == SAVED
    browser.sent("/settings", sent_by(browser.ok("/settings")))
    assert {**seller(api), "updated_at": 0} == {**found, "updated_at": 0}, "saved as it is, nothing changes"
    browser.sent("/settings", {"city": "Potsdam", "country": ""})
    after = seller(api)
    assert (after["city"], after["country"], after["state"]) == ("Potsdam", None, "Berlin")
    query = (
        "select action, subject, details from audit_entry where organization_id = %s order by id desc limit 1"
    )
    action, subject, details = browser.row(query, browser.organization.id)
    assert (action, subject) == ("changed settings", "Acme Tokens")
    assert details == {"city": "Potsdam", "country": None}


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("name", "", "Fill this in."),
        ("document_number_prefix", " ", "Fill this in."),
        ("document_number_prefix", "ELEVENCHARS", "This is too long."),
        ("country", "Germany", "This value can&#39;t be used."),
        ("timezone", "Berlin", "Give the name of a timezone, like Europe/Paris."),
        ("net_payment_term", "", "This value can&#39;t be used."),
        ("net_payment_term", "-1", "This is too large or too small."),
        ("invoice_grace_period", "soon", "Give a whole number, like 30."),
        ("document_numbering", "by_hand", "This value can&#39;t be used."),
        ("finalize_zero_amount_invoice", "maybe", "This value can&#39;t be used."),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(browser, api, name, typed, words):
    before = seller(api)
    page = browser.refused("/settings", {**SELLER, name: typed})
    assert f'id="{name}-error">{words}</p>' in page
    assert page.count('<p class="error"') == 1
    assert 'value="Hauptstraße 1"' in page, "what was typed stays"
    assert seller(api) == before


def test_taxes_of_the_seller(browser, api):
    for code in ("vat", "city"):
        api(taxes.create_tax, {"tax": {"name": code.upper(), "code": code, "rate": "19"}})
    browser.sent("/settings", {"taxes": "yes", "tax": "vat"})
    assert [tax["code"] for tax in seller(api)["taxes"]] == ["vat"]
    browser.sent("/settings", {"city": "Berlin"})
    assert [tax["code"] for tax in seller(api)["taxes"]] == ["vat"], "what is not sent stays"
    assert 'value="vat" checked' in browser.ok("/settings")
    browser.sent("/settings", {"taxes": "yes"})
    assert seller(api)["taxes"] == []


def test_finance_changes_settings(server):
    finance = join(server, role="finance")
    finance.sent("/settings", {"city": "Berlin"})
    assert 'value="Berlin"' in finance.ok("/settings")


def test_a_reader_sees_values_and_no_form(reader):
    page = reader.ok("/settings")
    assert 'name="legal_name"' not in page
    assert "Grace period in days 0" in text_of(page)
    assert "Numbers count For each customer" in text_of(page)
    assert "Taxes None." in text_of(page)
    assert 'aria-current="page">Settings</a>' in page
    assert reader.post("/settings", {"city": "Berlin"}).status_code == 403
