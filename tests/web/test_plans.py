"""Plans: the price grid and what it makes, the calculator, the price lists."""

from __future__ import annotations

import re

import pytest

from permille.api import plans as api_plans

from .conftest import text_of
from .test_metrics import TOKENS

GRID = {
    "name": "Pay as you go",
    "code": "payg",
    "interval": "monthly",
    "amount_currency": "USD",
    "amount": "0",
    "billable_metric_code": "tokens",
    "charge_model": "package",
    "charge_name": "GPT-4",
    "package_size": "1,000",
    "free_units": "0",
    "price:0:0": "0.06",  # 32K: values are in the order of their texts
    "price:0:1": "0.12",
    "price:1:0": "0.03",
    "price:1:1": "0.06",
    "price:others": "1",
}


@pytest.fixture
def tokens(browser):
    browser.sent("/new-billable-metric", TOKENS)


def charge_of(api):
    (charge,) = api(api_plans.show_plan, code="payg")["plan"]["charges"]
    return charge


def test_empty_lists_say_what_to_do(browser):
    assert "/app/templates" in browser.ok("/plans")
    assert "/app/new-billable-metric" in browser.ok("/new-plan")


def test_the_grid_becomes_a_charge_with_filters_and_comes_back(browser, api, tokens):
    form = browser.ok("/new-plan")
    assert form.index('aria-label="32K, input"') < form.index('aria-label="8K, output"')
    assert browser.sent("/new-plan", GRID) == "/app/plans/payg?said=created"
    charge = charge_of(api)
    found = [(each["values"], each["properties"]["amount"]) for each in charge["filters"]]
    assert found == [
        ({"model": ["32K"], "type": ["input"]}, "0.06"),
        ({"model": ["32K"], "type": ["output"]}, "0.12"),
        ({"model": ["8K"], "type": ["input"]}, "0.03"),
        ({"model": ["8K"], "type": ["output"]}, "0.06"),
    ]
    assert charge["properties"]["package_size"] == 1000
    assert charge["invoice_display_name"] == "GPT-4"
    edit = browser.ok("/edit-charge/payg", charge=charge["code"])
    prices = re.findall(r'name="price:\w+(?::\d)?" value="([^"]*)"', edit)
    assert prices == ["0.06", "0.12", "0.03", "0.06", "1"]


def test_prices_are_changed(browser, api, tokens):
    browser.sent("/new-plan", GRID)
    code = charge_of(api)["code"]
    form = {**GRID, "price:1:0": "0.02", "price:1:1": ""}
    assert browser.sent(f"/edit-charge/payg?charge={code}", form) == "/app/plans/payg?said=saved"
    amounts = [each["properties"]["amount"] for each in charge_of(api)["filters"]]
    assert amounts == ["0.06", "0.12", "0.02"]


def test_what_is_wrong_stands_in_its_cell_and_nothing_typed_is_lost(browser, tokens):
    page = browser.refused("/new-plan", {**GRID, "price:1:0": "cheap", "code": ""})
    assert 'id="price:1:0-error"' in page
    assert re.search(r'value="cheap"[^>]*aria-label="8K, input"[^>]*aria-invalid="true"', page)
    assert 'id="price:0:0-error"' not in page
    assert 'value="0.12"' in page
    assert 'id="code-error"' in page


def test_a_bad_package_size_is_refused(browser, tokens):
    words = text_of(browser.refused("/new-plan", {**GRID, "package_size": "0"}))
    assert "Give a whole number of at least 1." in words


def test_the_calculator(browser, api, tokens):
    browser.sent("/new-plan", GRID)
    code = charge_of(api)["code"]
    words = text_of(browser.ok("/plans/payg", **{f"{code}:2": "1,250,000", f"{code}:1": "1001"}))
    assert "8K input $0.03 per 1,000 $37.50" in words
    assert "32K output $0.12 per 1,000 $0.24" in words
    assert "$37.74 for the units above" in words
    assert "Give a number of zero or more." in text_of(browser.ok("/plans/payg", **{f"{code}:1": "-4"}))


def test_charges_are_added_and_plans_edited_and_deleted(browser, api, tokens):
    plain = {"name": "Base", "code": "payg", "interval": "weekly", "amount_currency": "EUR", "amount": "9.90"}
    browser.sent("/new-plan", plain)
    assert "€9.90" in browser.ok("/plans/payg")
    assert "no charges yet" in text_of(browser.ok("/plans/payg"))
    assert browser.sent("/add-charge/payg", GRID) == "/app/plans/payg?said=saved"
    assert len(charge_of(api)["filters"]) == 4
    assert "9.90" in browser.ok("/edit-plan/payg")
    browser.sent("/edit-plan/payg", {"name": "Basic", "amount": "12.5"})
    after = api(api_plans.show_plan, code="payg")["plan"]
    assert (after["name"], after["amount_cents"]) == ("Basic", 1250)
    assert "0.001" in browser.refused("/edit-plan/payg", {"name": "Basic", "amount": "0.001"})
    browser.sent("/delete-plan/payg")
    assert browser.client.get("/app/plans/payg").status_code == 404


def test_a_charge_that_does_not_fit_the_grid_is_a_list(browser, api, tokens):
    browser.sent("/new-plan", GRID)
    plan = api(api_plans.show_plan, code="payg")["plan"]
    ranges = [{"from_value": 0, "to_value": None, "per_unit_amount": "0.01", "flat_amount": "2"}]
    charge = {
        "billable_metric_id": plan["charges"][0]["lago_billable_metric_id"],
        "charge_model": "graduated",
        "properties": {"graduated_ranges": ranges},
    }
    body = {**plan, "code": "ranges", "charges": [charge], "tax_codes": []}
    body.pop("metadata", None)
    api(api_plans.create_plan, {"plan": body})
    page = browser.ok("/plans/ranges")
    assert "graduated" in text_of(page)
    assert "Edit prices" not in page


def test_price_lists(browser, api):
    words = text_of(browser.ok("/templates"))
    assert "GPT-4 8K context, input tokens $0.03 per 1,000" in words
    where = browser.sent("/templates", {"slug": "openai-gpt-4"})
    assert where == "/app/plans/openai-gpt-4?said=applied"
    assert "0.12" in browser.ok("/plans/openai-gpt-4")
    assert browser.post("/templates", {"slug": "no-such"}).status_code in (404, 422)


def test_roles(reader):
    assert reader.post("/new-plan", GRID).status_code == 403
    assert reader.post("/templates", {"slug": "openai-gpt-4"}).status_code == 403
    assert "Use it" not in text_of(reader.ok("/templates"))
