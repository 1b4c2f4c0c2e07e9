"""Prices in credits: chosen in the plan form, calculated, and shown beside the money wherever fees are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from permille.api import plans as api_plans, pricing_units as api_units

from .conftest import sent_by, text_of
from .test_metrics import TOKENS, event
from .test_plans import GRID, charge_of

CREDITS = {"code": "credits", "name": "Credits", "short_name": "CR"}
HALF = {"pricing_unit": "credits", "conversion_rate": "0.5"}
STANDARD = {**GRID, "charge_model": "percentage", "others:rate": "10", "metric": "tokens"}


@pytest.fixture
def tokens(browser):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})


@pytest.fixture
def credits_(api, tokens):
    api(api_units.create_pricing_unit, {"pricing_unit": CREDITS})


def test_without_units_there_is_nothing_to_choose(browser, api, tokens):
    assert 'name="pricing_unit"' not in browser.ok("/new-plan")
    browser.sent("/new-plan", GRID)
    assert charge_of(api)["applied_pricing_unit"] is None


def test_a_unit_is_chosen_comes_back_and_is_taken_away(browser, api, credits_):
    assert "Credits (CR)" in browser.ok("/new-plan")
    browser.sent("/new-plan", {**GRID, **HALF, "options": "yes", "min_amount": "12.5"})
    charge = charge_of(api)
    assert charge["applied_pricing_unit"] == {"code": "credits", "conversion_rate": "0.5"}
    assert charge["min_amount_cents"] == 1250
    edit = f"/edit-charge/payg?charge={charge['code']}"
    browser.sent(edit, sent_by(browser.ok("/edit-charge/payg", charge=charge["code"])))
    assert charge_of(api) == charge, "saved as it is, nothing changes"
    browser.sent(edit, {**GRID, "pricing_unit": "", "conversion_rate": "0.5"})
    assert charge_of(api)["applied_pricing_unit"] is None


def test_the_minimum_charge_has_the_units_decimals(browser, api, credits_):
    form = {**GRID, **HALF, "amount_currency": "JPY", "options": "yes", "min_amount": "12.5"}
    browser.sent("/new-plan", form)
    assert charge_of(api)["min_amount_cents"] == 1250
    assert 'value="12.5"' in browser.ok("/edit-charge/payg", charge=charge_of(api)["code"])


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({"conversion_rate": ""}, "conversion_rate", "This value can&#39;t be used."),
        ({"conversion_rate": "0"}, "conversion_rate", "This is too large or too small."),
        ({"pricing_unit": "none"}, "pricing_unit", "There is no such pricing unit."),
    ],
)
def test_what_is_wrong_is_shown_beside_it(browser, credits_, typed, field, words):
    page = browser.refused("/new-plan", {**GRID, **HALF, **typed})
    assert page.count(f'<p class="error" id="{field}-error">{words}</p>') == 1
    assert page.count('<p class="error"') == 1


def test_the_calculators_show_units_and_money(browser, api, credits_):
    page = text_of(browser.ok("/new-plan", **STANDARD, **HALF, units="12.34"))
    assert "1.23 CR x 0.5 = 0.615 USD $0.62 1.23 CR" in page
    without = text_of(browser.ok("/new-plan", **STANDARD, pricing_unit="credits", units="12.34"))
    assert "$" not in without.split("What would these units cost?")[0].rsplit("Everything else", 1)[1], (
        "what the unit is worth is not known yet"
    )
    browser.sent("/new-plan", {**GRID, **HALF})
    shown = text_of(browser.ok("/plans/payg", **{f"{charge_of(api)['code']}:4": "3 000"}))
    assert "package, in Credits: 1 CR is $0.50" in shown
    assert "1.00 CR per 1,000 = 3,000 $1.50 3.00 CR" in shown


def test_with_subscriptions_the_rate_changes_and_the_unit_stays(browser, api, credits_):
    api(api_units.create_pricing_unit, {"pricing_unit": {**CREDITS, "code": "stars", "name": "Stars"}})
    browser.sent("/new-plan", {**GRID, **HALF})
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    browser.sent(
        "/subscribe/acme", {"plan_code": "payg", "external_id": "acme-1", "billing_time": "calendar"}
    )
    edit = f"/edit-charge/payg?charge={charge_of(api)['code']}"
    page = browser.ok("/edit-charge/payg", charge=charge_of(api)["code"])
    assert "Credits (CR)" in page
    assert "Stars (CR)" not in page
    browser.confirmed(edit, {**sent_by(page), "conversion_rate": "0.25"})
    assert charge_of(api)["applied_pricing_unit"] == {"code": "credits", "conversion_rate": "0.25"}


def test_usage_invoice_and_fee(browser, api, credits_, send):
    browser.sent("/new-plan", {**GRID, **HALF, "interval": "monthly"})
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    browser.sent(
        "/subscribe/acme", {"plan_code": "payg", "external_id": "acme-1", "billing_time": "calendar"}
    )
    send("tokens", "acme-1", model="8K", type="input", tokens=1_250_000)
    send("tokens", "acme-1", datetime(2026, 10, 2, tzinfo=UTC), model="32K", type="output", tokens=999)
    words = text_of(browser.ok("/customers/acme"))
    assert "8K input 1,250,000 1 0.03 CR per 1,000 $18.75 37.50 CR" in words
    assert "Total 1,250,999 2 $18.81 37.62 CR" in words
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    words = text_of(browser.ok("/customers/acme"))
    assert "1,250,000 8K, input: $18.75 37.50 CR" in words
    (invoice_id,) = browser.row("select id from invoice where organization_id = %s", browser.organization.id)
    page = browser.ok(f"/invoices/{invoice_id}")
    assert "0.03 CR per 1,000 $18.75 37.50 CR" in text_of(page)
    fee_id = page.split("/app/fees/", 1)[1].split('"', 1)[0]
    words = text_of(browser.ok(f"/fees/{fee_id}"))
    assert " CR x 0.5 = " in words
    assert " CR for " in words
    assert "the same" in words


def test_a_price_in_the_unit_has_the_units_decimals(browser, api, credits_):
    browser.sent("/new-plan", {**GRID, **HALF, "amount_currency": "JPY"})
    words = text_of(browser.ok("/plans/payg"))
    assert "0.03 CR per 1,000" in words
    assert "1.00 CR per 1,000" in words
    plan = api(api_plans.show_plan, code="payg")["plan"]
    assert plan["amount_currency"] == "JPY"


def test_the_tester_of_events_shows_prices_in_the_unit(browser, credits_):
    browser.sent("/new-plan", {**GRID, **HALF})
    pasted = event(model="8K", type="input", tokens=3)
    assert "0.03 CR per 1,000" in text_of(browser.ok("/billable-metrics/tokens", event=pasted))


def test_units_are_made_changed_and_deleted(browser, reader, tokens):
    assert "every charge is priced in money" in text_of(browser.ok("/pricing-units"))
    assert "/app/pricing-units" in browser.ok("/plans")
    page = browser.refused("/new-pricing-unit", {**CREDITS, "short_name": "CRED", "code": ""})
    assert 'id="short_name-error"' in page
    assert 'id="code-error"' in page
    assert 'value="CRED"' in page
    browser.sent("/new-pricing-unit", CREDITS)
    assert "This is taken already." in browser.refused("/new-pricing-unit", CREDITS)
    assert 'value="Credits"' in browser.ok("/edit-pricing-unit/credits")
    browser.sent("/edit-pricing-unit/credits", {**CREDITS, "name": "Stars"})
    assert "Stars CR credits" in text_of(browser.ok("/pricing-units"))
    browser.sent("/new-plan", {**GRID, **HALF})
    refused = browser.refused("/delete-pricing-unit/credits")
    assert "Charges of a plan are priced in it" in refused
    browser.sent("/delete-plan/payg")
    assert browser.sent("/delete-pricing-unit/credits") == "/app/pricing-units?said=deleted"
    assert "Stars" not in text_of(browser.ok("/pricing-units"))
    assert reader.post("/new-pricing-unit", CREDITS).status_code == 403
