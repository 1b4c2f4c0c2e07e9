"""The pages of custom sections, and where they are chosen."""

from __future__ import annotations

from permille.api import billing_entities, customers, plans, subscriptions, wallets

from .conftest import sent_by, text_of

BANK = {
    "name": "Bank",
    "code": "bank",
    "display_name": "Bank details",
    "details": "IBAN 1\r\nBIC 2",
    "description": "",
}

NEW = [
    *(
        "/new-customer",
        "/new-plan",
        "/new-coupon",
        "/new-add-on",
        "/new-billing-entity",
        "/new-billable-metric",
    ),
    *("/new-dunning-campaign", "/new-feature", "/new-pricing-unit", "/new-custom-section"),
]
"""The forms for something new, which show no more than they know."""


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
    for page in NEW:
        assert browser.ok(page)
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


def chosen(found):
    return [each["invoice_custom_section"]["code"] for each in found["applied_invoice_custom_sections"]]


def test_sections_are_chosen_for_a_subscription(browser, api):
    api(customers.upsert_customer, {"customer": {"external_id": "cus"}})
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR"}
    api(plans.create_plan, {"plan": {**plan, "pay_in_advance": False}})
    assert "Custom sections" not in browser.ok("/customers/cus", tab="subscriptions")
    for code in ("bank", "legal"):
        browser.sent("/new-custom-section", {**BANK, "name": f"The {code}", "code": code})
    form = {"plan_code": "p", "external_id": "sub", "invoice_custom_section_codes": "legal"}
    browser.sent("/subscribe/cus", {**form, "skip_invoice_custom_sections": "false"})

    def of_subscription():
        return chosen(api(subscriptions.show_subscription, external_id="sub")["subscription"])

    assert of_subscription() == ["legal"]
    assert "Custom sections: The legal" in text_of(browser.ok("/customers/cus", tab="subscriptions"))
    edit = "/subscription-sections/sub"
    page = browser.ok(edit)
    assert 'value="legal" checked' in page
    sent = {"invoice_custom_section_codes": "bank", "skip_invoice_custom_sections": "false"}
    assert browser.sent(edit, sent) == "/app/customers/cus?tab=subscriptions&said=saved"
    assert of_subscription() == ["bank"]
    browser.sent(edit, {**sent, "skip_invoice_custom_sections": "true"})
    assert of_subscription() == []
    assert 'value="true" selected' in browser.ok(edit)
    assert browser.client.get("/app/subscription-sections/none").status_code == 404


def test_sections_are_chosen_for_a_wallet(browser, api):
    api(customers.upsert_customer, {"customer": {"external_id": "cus"}})
    browser.sent("/new-custom-section", BANK)
    form = {"name": "W", "currency": "EUR", "rate_amount": "1", "priority": "50", "rule_trigger": ""}
    sent = {"invoice_custom_section_codes": "bank", "skip_invoice_custom_sections": "false"}
    where = browser.sent("/new-wallet/cus", {**form, **sent})
    (made,) = api(wallets.list_wallets)["wallets"]
    assert made["lago_id"] in where
    assert chosen(made) == ["bank"]
    page = browser.ok(f"/edit-wallet/{made['lago_id']}")
    assert 'value="bank" checked' in page
    browser.sent(
        f"/edit-wallet/{made['lago_id']}", {**sent_by(page), **sent, "invoice_custom_section_codes": ""}
    )
    assert chosen(api(wallets.list_wallets)["wallets"][0]) == []
