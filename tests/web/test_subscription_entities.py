"""Who bills a subscription, in the web admin."""

from __future__ import annotations

from permille.api import billing_entities, customers, plans, subscriptions

from .conftest import text_of


def test_a_subscription_is_billed_by_the_entity_that_is_chosen(browser, api):
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR"}
    api(plans.create_plan, {"plan": {**plan, "pay_in_advance": False}})
    api(customers.upsert_customer, {"customer": {"external_id": "cus"}})
    alone = browser.ok("/customers/cus", tab="subscriptions")
    assert "billing_entity_code" not in alone
    api(billing_entities.create_billing_entity, {"billing_entity": {"code": "second", "name": "Second"}})
    sent = {"plan_code": "p", "external_id": "sub", "billing_entity_code": "second"}
    browser.sent("/subscribe/cus", sent)

    def shown():
        return api(subscriptions.show_subscription, external_id="sub")["subscription"]["billing_entity_code"]

    assert shown() == "second"
    assert "Billed by second" in text_of(browser.ok("/customers/cus", tab="subscriptions"))
    edit = "/subscription-entity/sub"
    assert 'value="second" selected' in browser.ok(edit)
    assert (
        browser.sent(edit, {"billing_entity_code": ""}) == "/app/customers/cus?tab=subscriptions&said=saved"
    )
    assert shown() == "default"
    assert browser.client.get("/app/subscription-entity/none").status_code == 404
