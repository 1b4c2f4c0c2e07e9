"""The pages of custom sections, and where they are chosen."""

from __future__ import annotations

from permille.api import billing_entities, customers

from .conftest import sent_by, text_of

BANK = {
    "name": "Bank",
    "code": "bank",
    "display_name": "Bank details",
    "details": "IBAN 1\r\nBIC 2",
    "description": "",
}


def test_a_section_is_made_changed_and_deleted(browser):
    assert "/app/custom-sections" in browser.ok("/settings")
    assert "No custom sections yet" in browser.ok("/custom-sections")
    assert browser.sent("/new-custom-section", BANK) == "/app/custom-sections?said=created"
    assert "Bank details" in text_of(browser.ok("/custom-sections"))
    assert "IBAN 1\nBIC 2</textarea>" in browser.ok("/edit-custom-section/bank")
    browser.sent("/edit-custom-section/bank", {**BANK, "display_name": "How to pay"})
    assert "How to pay" in text_of(browser.ok("/custom-sections"))
    assert 'id="code-error"' in browser.refused("/new-custom-section", BANK)
    browser.sent("/delete-custom-section/bank")
    assert "No custom sections yet" in browser.ok("/custom-sections")


def test_sections_are_chosen_for_the_seller_and_for_a_customer(browser, api):
    for code in ("bank", "legal"):
        browser.sent("/new-custom-section", {**BANK, "name": code, "code": code})
    browser.sent("/settings", {"invoice_custom_section_codes": "bank"})

    def codes(found):
        return [each["code"] for each in found]

    entity = api(billing_entities.show_billing_entity, code="default")["billing_entity"]
    assert codes(entity["selected_invoice_custom_sections"]) == ["bank"]
    form = {"external_id": "cus", "name": "C", "invoice_custom_section_codes": "legal"}
    browser.sent("/new-customer", {**form, "skip_invoice_custom_sections": "false"})

    def applicable():
        found = api(customers.show_customer, external_id="cus")["customer"]
        return codes(found["applicable_invoice_custom_sections"])

    assert applicable() == ["legal"]
    page = browser.ok("/edit-customer/cus")
    assert 'value="legal" checked' in page
    browser.sent("/edit-customer/cus", {**sent_by(page), "invoice_custom_section_codes": ""})
    assert applicable() == ["bank"]
    browser.sent("/edit-customer/cus", {"skip_invoice_custom_sections": "true"})
    assert applicable() == []
