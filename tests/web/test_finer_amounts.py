"""An amount that is finer than its currency is refused beside its field, with the currency and its decimals."""

from __future__ import annotations

import pytest

from permille.api import plans
from permille.core.errors import Invalid
from permille.http.words import message_of

from .conftest import sent_by, text_of
from .test_add_ons import SETUP
from .test_alerts import FORM as ALERT
from .test_coupons import AMOUNT
from .test_wallets import WALLET

SAID = "Amounts in USD have at most 2 decimals, and 1.005 has more."
DUNNING = {"name": "Late", "code": "late", "max_attempts": "3", "days_between_attempts": "7"}


@pytest.mark.parametrize(
    ("path", "form", "label"),
    [
        ("/new-add-on", {**SETUP, "amount_currency": "USD", "amount": "1.005"}, "Amount"),
        ("/new-coupon", {**AMOUNT, "amount": "1.005"}, "Amount"),
        ("/new-wallet/acme", {**WALLET, "paid_top_up_min": "1.005"}, "Smallest amount at once"),
        ("/alerts/acme-1", {**ALERT, "value1": "1.005"}, "Threshold"),
        ("/new-dunning-campaign", {**DUNNING, "thresholds": "USD 1.005"}, "Overdue amounts"),
    ],
)  # fmt: skip
def test_it_is_said_with_the_fields_name(browser, gpt4, path, form, label):
    words = text_of(browser.refused(path, form))
    assert SAID in words
    assert label in words.split("This could not be saved:")[1]


def test_a_plan_and_its_minimum_are_in_its_currency(browser, gpt4):
    plan = sent_by(browser.ok("/edit-plan/openai-gpt-4"))
    words = text_of(browser.refused("/edit-plan/openai-gpt-4", {**plan, "amount": "1.005"}))
    assert words.count(SAID) == 2
    for name in ("commitment", "thresholds"):
        assert SAID in text_of(browser.refused("/edit-plan/openai-gpt-4", {**plan, name: "1.005"}))
    yen = {"name": "Yen", "code": "yen", "interval": "monthly", "amount": "10.5", "amount_currency": "JPY"}
    words = text_of(browser.refused("/new-plan", yen))
    assert "Amounts in JPY have no decimals, and 10.5 has more." in words


def test_what_is_paid_and_comes_back_is_in_the_invoices_currency(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=100_000)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    (invoice,) = browser.row("select id from invoice where organization_id = %s", browser.organization.id)
    payment = {"amount": "1.005", "reference": "bank", "paid_at": ""}
    assert SAID in text_of(browser.refused(f"/record-payment/{invoice}", payment))
    assert SAID in text_of(
        browser.refused(f"/invoices/{invoice}/void", {"choice": "note", "credit": "1.005"})
    )
    note = {"credit": "1.005", "refund": "0", "offset": "0", "reason": "other"}
    (fee,) = browser.row("select id from fee where invoice_id = %s and amount_cents > 0", invoice)
    assert SAID in text_of(browser.refused(f"/credit-invoice/{invoice}?amount:{fee}=1", note))


def test_the_api_says_what_a_whole_amount_is(browser, api):
    plan = {
        "name": "Yen",
        "code": "yen",
        "interval": "monthly",
        "amount_cents": "10.5",
        "amount_currency": "JPY",
    }
    with pytest.raises(Invalid) as refused:
        api(plans.create_plan, {"plan": plan})
    assert "amount_cents: Give a whole number of the currency's smallest unit" in message_of(refused.value)
