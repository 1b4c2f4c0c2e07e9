"""The pages of wallets: a customer's, one with its lots and transactions, and what is done with it."""

from __future__ import annotations

from permille.api import wallets as api_wallets

from .conftest import sent_by, text_of
from .test_metrics import TOKENS
from .test_plans import GRID

WALLET = {
    "name": "Year one",
    "currency": "USD",
    "rate_amount": "2",
    "granted_credits": "12,5",
    "priority": "3",
    "expiration_at": "2030-01-31",
    "fee_type": "subscription",
    "paid_top_up_min": "4",
    "rule_trigger": "threshold",
    "rule_threshold_credits": "1",
    "rule_method": "target",
    "rule_target_ongoing_balance": "7",
    "rule_grants_target_top_up": "on",
}


def test_a_wallet_is_opened_filled_spent_changed_and_terminated(browser, api, reader):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})
    browser.sent("/new-plan", {**GRID, "interval": "monthly", "amount": "10"})
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    assert "No wallet yet" in browser.ok("/customers/acme", tab="wallets")
    path = browser.sent("/new-wallet/acme", WALLET).removeprefix("/app").split("?")[0]
    wallet_id = path.rsplit("/")[-1]

    def shown():
        return api(api_wallets.show_wallet, lago_id=wallet_id)["wallet"]

    made = shown()
    assert (made["code"], made["balance_cents"], made["paid_top_up_min_amount_cents"]) == (
        "year_one",
        2_500,
        400,
    )
    (rule,) = made["recurring_transaction_rules"]
    assert (rule["target_ongoing_balance"], rule["grants_target_top_up"]) == ("7.0", True)
    edit = f"/edit-wallet/{wallet_id}"
    browser.sent(edit, sent_by(browser.ok(edit)))
    assert shown() == made, "saved as it is, nothing changes, the rule neither"
    words = text_of(browser.ok(path))
    assert "$25.00 12.5 credits" in words
    assert "Pays for subscription fees" in words
    assert "at 1 ongoing credits: to 7 credits, for nothing" in words
    browser.sent(path, {"paid_credits": "3", "voided_credits": "0.5", "name": "More"})
    words = text_of(browser.ok(path))
    assert "purchased More pending" in words
    assert "voided More settled" in words
    assert "smallest amount" in browser.refused(path, {"paid_credits": "1"})
    assert "fewer credits" in browser.refused(path, {"voided_credits": "100"})
    browser.sent(
        "/subscribe/acme", {"plan_code": "payg", "external_id": "acme-1", "billing_time": "anniversary"}
    )
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    assert shown()["balance_cents"] == 2_400 - 1_000
    (spent,) = browser.row(
        "select t.id from wallet_transaction t where t.organization_id = %s and t.transaction_status = 'invoiced'",
        browser.organization.id,
    )
    words = text_of(browser.ok(f"/wallet-transactions/{spent}"))
    assert "Where it was taken from" in words
    assert "granted – 5 $10.00" in words
    assert "$14.00" in text_of(browser.ok("/customers/acme", tab="wallets"))
    browser.sent(edit, {**sent_by(browser.ok(edit)), "priority": "9", "rule_trigger": ""})
    assert (shown()["priority"], shown()["recurring_transaction_rules"]) == (9, [])
    assert reader.post(path, {"granted_credits": "1"}).status_code == 403
    browser.sent(f"{path}/terminate", {})
    assert "Buy, give or void" not in browser.ok(path)
    assert "terminated" in text_of(browser.ok("/customers/acme", tab="wallets"))


def test_what_is_wrong_is_said_at_its_field(browser):
    browser.sent("/new-customer", {"external_id": "acme"})
    wrong = {
        **WALLET,
        "granted_credits": "many",
        "paid_top_up_max": "3",
        "rule_target_ongoing_balance": "0.5",
    }
    page = browser.refused("/new-wallet/acme", {**wrong, "expiration_at": "2020-01-01", "priority": "51"})
    for name in ("granted_credits", "paid_top_up_max", "rule_trigger", "expiration_at", "priority"):
        assert f'id="{name}-error"' in page, name


def test_events_of_a_charge_may_name_a_wallet(browser, api):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})
    browser.sent("/new-plan", {**GRID, "accepts_target_wallet": "true"})
    assert "Events may name the wallet that pays for it." in text_of(browser.ok("/plans/payg"))
