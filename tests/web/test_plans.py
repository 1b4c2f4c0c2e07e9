"""Plans: the price grid and what it makes, the calculator, the price lists."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from permille.api import billable_metrics as api_metrics, plans as api_plans

from .conftest import sent_by, text_of
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
    "unlisted_values": "free",
}


@pytest.fixture
def tokens(browser):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})


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


def test_what_is_wrong_is_shown_in_its_cell_and_nothing_typed_is_lost(browser, tokens):
    page = browser.refused("/new-plan", {**GRID, "price:1:0": "cheap", "code": ""})
    assert 'id="price:1:0-error"' in page
    assert re.search(r'value="cheap"[^>]*aria-label="8K, input"[^>]*aria-invalid="true"', page)
    assert 'id="price:0:0-error"' not in page
    assert 'value="0.12"' in page
    assert 'id="code-error"' in page


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("package_size", "0", "Give a whole number of at least 1."),
        ("package_size", "", "Give a whole number of at least 1."),
        ("free_units", "-1", "Give a whole number of at least 0."),
        ("price:others", "x", "Give an amount of zero or more, like 0.03."),
        ("charge_name", "x" * 5000, "This is too long."),
        ("amount", "ten", "Give a number, like 1234.50."),
        ("name", "", "Fill this in."),
    ],
)
def test_what_is_refused_is_reported_once_beside_its_field(browser, tokens, field, text, words):
    page = browser.refused("/new-plan", {**GRID, field: text})
    assert page.count(f'<p class="error" id="{field}-error">{words}</p>') == 1
    assert page.count('<p class="error"') == 1
    assert page.count("<li>\n") + page.count("<li><strong>") == 1
    assert f'aria-describedby="{field}-error"' in page


def table_of(page: str) -> list[list[str]]:
    """The cells of the first table in the page, each with its inputs' labels in brackets."""
    table = page.split("<table", 1)[1].split("</table>", maxsplit=1)[0]
    labelled = re.sub(r'<input[^>]*aria-label="([^"]*)"[^>]*>', r"[\1]", table)
    rows = re.findall(r"<tr>(.*?)</tr>", labelled, flags=re.DOTALL)
    return [[text_of(cell) for cell in re.split(r"</t[hd]>", row)[:-1]] for row in rows]


def test_prices_are_shown_as_a_grid(browser, tokens):
    browser.sent("/new-plan", {**GRID, "price:1:1": "", "charge_name": ""})
    assert table_of(browser.ok("/plans/payg")) == [
        ["model", "input", "output"],
        [
            "32K",
            "$0.06 per 1,000 [Units of 32K, input]",
            "$0.12 per 1,000 [Units of 32K, output]",
        ],
        ["8K", "$0.03 per 1,000 [Units of 8K, input]", "as everything else"],
        ["everything else", "$1.00 per 1,000 [Units of everything else]"],
    ]


def test_the_calculator(browser, api, tokens):
    browser.sent("/new-plan", GRID)
    code = charge_of(api)["code"]
    page = browser.ok("/plans/payg", **{f"{code}:2": "1,250,000", f"{code}:1": "1001"})
    assert table_of(page)[1:3] == [
        [
            "32K",
            "$0.06 per 1,000 [Units of 32K, input]",
            "$0.12 per 1,000 [Units of 32K, output] = 1,001 $0.24",
        ],
        [
            "8K",
            "$0.03 per 1,000 [Units of 8K, input] = 1,250,000 $37.50",
            "$0.06 per 1,000 [Units of 8K, output]",
        ],
    ]
    assert "$37.74 for the units above" in text_of(page)
    assert 'value="1,250,000"' in page


@pytest.mark.parametrize("units", ["-4", "many", "1e5", "9" * 3000])
def test_units_that_are_no_number_are_refused_beside_their_field(browser, api, tokens, units):
    browser.sent("/new-plan", GRID)
    field = f"{charge_of(api)['code']}:1"
    page = browser.ok("/plans/payg", **{field: units})
    assert page.count("Give a number of zero or more.") == 1
    assert f'aria-describedby="{field}-error"' in page
    assert f'id="{field}-error"' in page


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


RANGES = [{"from_value": 0, "to_value": None, "per_unit_amount": "0.01", "flat_amount": "2"}]
MANY_PRICES = [
    {"charge_model": "graduated", "properties": {"graduated_ranges": RANGES}},
    {
        "charge_model": "standard",
        "properties": {"amount": "1"},
        "filters": [{"values": {"model": ["8K"]}, "properties": {"amount": "0.2"}}],
    },
    {
        "charge_model": "package",
        "properties": {"amount": "1", "package_size": 1000, "free_units": 0},
        "filters": [
            {
                "values": {"model": ["8K"], "type": ["input"]},
                "properties": {"amount": "0.2", "package_size": 10, "free_units": 0},
            }
        ],
    },
    {"charge_model": "standard", "properties": {"amount": "1", "pricing_group_keys": ["region"]}},
]
LISTED = [
    ["all", "above: $0.01 each and $2.00", "[Units of everything else]", "–"],
    ["8K", "$0.20 each", "[Units of 8K]", "–"],
    ["8K", "input", "$0.20 per 10", "[Units of 8K, input]", "–"],
    ["all", "$1.00 each", "[Units of everything else]", "–"],
]


@pytest.mark.parametrize(("charge", "first"), list(zip(MANY_PRICES, LISTED, strict=True)))
def test_a_charge_that_does_not_fit_the_grid_is_a_list(browser, api, tokens, charge, first):
    metric = api(api_metrics.show_billable_metric, code="tokens")["billable_metric"]
    plan = {
        "name": "Ranges",
        "code": "ranges",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [{**charge, "billable_metric_id": metric["lago_id"]}],
    }
    api(api_plans.create_plan, {"plan": plan})
    page = browser.ok("/plans/ranges")
    assert table_of(page)[1] == first
    edit = browser.ok("/edit-charge/ranges", charge="tokens")
    before = api(api_plans.show_plan, code="ranges")["plan"]["charges"]
    assert browser.sent("/edit-charge/ranges?charge=tokens", sent_by(edit)) == "/app/plans/ranges?said=saved"
    assert api(api_plans.show_plan, code="ranges")["plan"]["charges"] == before, "saved as it was shown"


def test_names_on_the_invoice_and_the_order_stay_when_prices_change(browser, api):
    browser.sent("/templates", {"slug": "openai-gpt-4", "unlisted_values": "held"})

    def filters():
        (charge,) = api(api_plans.show_plan, code="openai-gpt-4")["plan"]["charges"]
        return charge["code"], [
            (each["invoice_display_name"], each["values"], each["properties"]) for each in charge["filters"]
        ]

    code, known = filters()
    assert known[0][0] == "GPT-4 8K context, input tokens"
    form = browser.ok("/edit-charge/openai-gpt-4", charge=code)
    names = r'name="(price:[^"]*|package_size|free_units|charge_name)"[^>]*value="([^"]*)"'
    typed = {**dict(re.findall(names, form)), "charge_model": "package"}
    browser.sent(f"/edit-charge/openai-gpt-4?charge={code}", typed)
    assert filters() == (code, known)
    browser.sent(f"/edit-charge/openai-gpt-4?charge={code}", {**typed, "price:0:0": "0.01"})
    name, values, prices = known[0]
    assert filters() == (code, [(name, values, {**prices, "amount": "0.01"}), *known[1:]])


def test_with_subscriptions_the_way_of_pricing_stays(browser, gpt4, api):
    (charge,) = api(api_plans.show_plan, code="openai-gpt-4")["plan"]["charges"]
    form = browser.ok("/edit-charge/openai-gpt-4", charge=charge["code"])
    assert re.findall(r'<option value="(package|standard)"', form) == ["package"]


def test_what_was_typed_survives_the_choice_of_another_metric(browser, tokens):
    browser.sent(
        "/new-billable-metric", {**TOKENS, "code": "images", "name": "Images", "values": ["XL", "hd"]}
    )
    typed = {**GRID, "metric": "images"}
    page = browser.ok("/new-plan", **typed)
    assert 'value="Pay as you go"' in page
    assert 'value="GPT-4"' in page
    assert 'aria-label="XL, hd"' in page
    assert 'value="0.06"' not in page  # the price in the same place of the other metric
    assert 'name="billable_metric_code" value="images"' in page
    assert 'value="0.12"' in browser.ok("/new-plan", **{**typed, "metric": "tokens"})
    browser.sent("/new-plan", GRID)
    assert 'value="GPT-4"' in browser.ok("/add-charge/payg", metric="images", charge_name="GPT-4")


def test_a_plan_with_its_fee_alone(browser, api, tokens):
    page = browser.ok("/new-plan", metric="", name="Base")
    assert 'name="billable_metric_code"' not in page
    form = {"name": "Base", "code": "payg", "interval": "monthly", "amount_currency": "USD", "amount": "9"}
    browser.sent("/new-plan", {**form, "metric": ""})
    assert api(api_plans.show_plan, code="payg")["plan"]["charges"] == []


def test_agreed_amounts_are_typed_shown_and_changed_with_their_names(browser, api, tokens):
    typed = {
        "commitment": "1000",
        "commitment_name": "At least",
        "thresholds": "250.50; 100",
        "recurring_threshold": "90",
    }
    form = {
        "name": "Base",
        "code": "payg",
        "interval": "monthly",
        "amount_currency": "USD",
        "amount": "9",
        "metric": "",
    }
    browser.sent("/new-plan", {**form, **typed})

    def said() -> Any:
        plan = api(api_plans.show_plan, code="payg")["plan"]
        found = [(each["amount_cents"], each["recurring"]) for each in plan["usage_thresholds"]]
        return plan["minimum_commitment"], sorted(found)

    committed, thresholds = said()
    assert (committed["amount_cents"], committed["invoice_display_name"]) == (100_000, "At least")
    assert thresholds == [(9_000, True), (10_000, False), (25_050, False)]
    words = text_of(browser.ok("/plans/payg"))
    assert "At least" in words
    assert "$1,000.00 a period" in words
    assert "again each $90.00" in words
    page = browser.ok("/edit-plan/payg")
    assert 'value="100.00; 250.50"' in page
    edited = {
        "name": "Base",
        "amount": "9",
        "commitment": "",
        "thresholds": "100.00",
        "recurring_threshold": "",
    }
    browser.sent("/edit-plan/payg", edited)
    assert said() == (None, [(10_000, False)])
    refused = browser.post("/edit-plan/payg", {**edited, "thresholds": "100; much"})
    assert "This value can't be used." in html.unescape(refused.text)


def test_price_lists(browser, api):
    words = text_of(browser.ok("/templates"))
    assert "GPT-4 8K context, input tokens $0.03 per 1,000" in words
    where = browser.sent("/templates", {"slug": "openai-gpt-4", "unlisted_values": "held"})
    assert where == "/app/plans/openai-gpt-4?said=applied"
    assert "0.12" in browser.ok("/plans/openai-gpt-4")
    assert browser.post("/templates", {"slug": "no-such"}).status_code in (404, 422)
    assert "Unlisted values are held until they have a price." in browser.ok("/plans/openai-gpt-4")
    plan = api(api_plans.show_plan, code="openai-gpt-4")["plan"]
    assert {each["unlisted_values"] for each in plan["charges"]} == {"held"}
    unsaid = browser.refused("/templates", {"slug": "openai-gpt-4"})
    assert "Choose what is done with values that no price lists." in unsaid


def test_roles(reader):
    assert reader.post("/new-plan", GRID).status_code == 403
    assert reader.post("/templates", {"slug": "openai-gpt-4"}).status_code == 403
    assert "Use it" not in text_of(reader.ok("/templates"))


MODELS: Any = [
    (
        {
            "charge_model": "graduated",
            "others:to": ["10", ""],
            "others:price": ["2", "1"],
            "others:flat": ["5", ""],
        },
        {
            "graduated_ranges": [
                {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "5"},
                {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
            ]
        },
        "$27.00",
    ),
    (
        {
            "charge_model": "volume",
            "others:to": ["1000", ""],
            "others:price": ["2", "1"],
            "others:flat": ["0", "0"],
        },
        {
            "volume_ranges": [
                {"from_value": 0, "to_value": 1000, "per_unit_amount": "2", "flat_amount": "0"},
                {"from_value": 1001, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
            ]
        },
        "$24.00",
    ),
    (
        {
            "charge_model": "graduated_percentage",
            "others:to": [""],
            "others:price": ["50"],
            "others:flat": ["1"],
        },
        {
            "graduated_percentage_ranges": [
                {"from_value": 0, "to_value": None, "rate": "50", "flat_amount": "1"}
            ]
        },
        "$7.00",
    ),
    (
        {
            "charge_model": "percentage",
            "others:rate": "10",
            "others:fixed_amount": "1",
            "others:free_units_per_events": "1",
            "events": "3",
        },
        {"rate": "10", "fixed_amount": "1", "free_units_per_events": 1},
        "$2.80",
    ),
    ({"charge_model": "dynamic"}, {}, None),
]
HEAD = {
    "name": "All",
    "code": "all",
    "interval": "monthly",
    "amount_currency": "USD",
    "amount": "0",
    "unlisted_values": "free",
}


@pytest.mark.parametrize("case", MODELS, ids=[str(case[0]["charge_model"]) for case in MODELS])
def test_every_model_is_offered_calculated_saved_and_comes_back(browser, api, tokens, case):
    typed, properties, cost = case
    form = {**HEAD, "billable_metric_code": "tokens", "metric": "tokens", "units": "12", **typed}
    page = browser.ok("/new-plan", **form)
    if cost:
        assert cost in text_of(page)
    assert browser.sent("/new-plan", form) == "/app/plans/all?said=created"
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    assert (charge["charge_model"], charge["properties"], charge["filters"]) == (
        typed["charge_model"],
        properties,
        [],
    )
    edit = browser.ok("/edit-charge/all", charge=charge["code"])
    browser.sent(f"/edit-charge/all?charge={charge['code']}", sent_by(edit))
    assert api(api_plans.show_plan, code="all")["plan"]["charges"] == [charge]
    assert browser.ok("/plans/all")


def test_each_filter_has_terms_of_its_own(browser, api, tokens):
    page = browser.ok("/new-plan", **HEAD, metric="tokens", charge_model="percentage")
    fields = sent_by(page)
    eight = next(name for name, (value, *_) in fields.items() if '"8K"' in value and '"input"' in value)
    prefix = eight.removesuffix("values")
    form = {
        **fields,
        f"{prefix}rate": "3",
        "others:rate": "5",
        "pricing_group_keys": "user, team",
        "charge_name": "Fee",
    }
    browser.sent("/new-plan", form)
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    assert charge["properties"]["pricing_group_keys"] == ["user", "team"]
    (entry,) = charge["filters"]
    assert (entry["values"], entry["properties"]["rate"]) == ({"model": ["8K"], "type": ["input"]}, "3")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            {"charge_model": "percentage", "others:rate": "much"},
            "Give a percentage of zero or more, like 2.5.",
        ),
        (
            {
                "charge_model": "graduated",
                "others:to": ["5", "3", ""],
                "others:price": ["1", "1", "1"],
                "others:flat": ["", "", ""],
            },
            "Each tier ends above its start",
        ),
        (
            {"charge_model": "graduated", "others:to": ["5"], "others:price": ["1"], "others:flat": [""]},
            "only the last one is open",
        ),
        (
            {
                "charge_model": "percentage",
                "others:rate": "1",
                "others:per_transaction_min_amount": "3",
                "others:per_transaction_max_amount": "2",
            },
            "The greatest price is below the least.",
        ),
    ],
)
def test_terms_that_cannot_be_are_reported_beside_them_and_stay(browser, tokens, typed, words):
    page = browser.refused("/new-plan", {**HEAD, "billable_metric_code": "tokens", **typed})
    assert words in page
    assert 'aria-describedby="others:error"' in page
    for value in typed.values():
        for text in value if isinstance(value, list) else [value]:
            assert f'value="{text}"' in page


def test_a_model_that_does_not_go_with_the_metric_is_reported(browser, tokens):
    browser.sent("/new-billable-metric", {"name": "Calls", "code": "calls", "aggregation_type": "count_agg"})
    page = browser.refused("/new-plan", {**HEAD, "billable_metric_code": "calls", "charge_model": "dynamic"})
    assert "This doesn&#39;t go with the metric&#39;s aggregation." in page


def test_the_custom_model(browser, api, tokens):
    rules = {
        "total_units": "state.total_units + event.properties.n",
        "amount": "event.properties.n * custom_properties.price",
    }
    metric = {
        "name": "Calls",
        "code": "calls",
        "aggregation_type": "custom_agg",
        "key": "model",
        "values": "8K",
    }
    browser.sent("/new-billable-metric", {**metric, **rules})
    form = {
        **HEAD,
        "billable_metric_code": "calls",
        "metric": "calls",
        "charge_model": "custom",
        "b0:values": '{"model": ["8K"]}',
        "b0:custom_properties": '{"price": 2}',
        "others:custom_properties": '{"price": "0.125", "note": "a, b"}',
        "sample_events": '{"n": 2}\r\n{"n": 10}\nnonsense\n{"n": "x"}',
    }
    words = html.unescape(text_of(browser.ok("/new-plan", **form)))
    assert "what the metric's own rule adds for each event, of 12 units $24.00" in words
    assert "$1.50" in words
    for wrong, said in [("price", "Give a JSON object"), ("{}", "look at a property that is not given here")]:
        page = browser.refused("/new-plan", {**form, "others:custom_properties": wrong})
        assert said in text_of(page)
    browser.sent("/new-plan", form)
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    kept = {"custom_properties": {"price": "0.125", "note": "a, b"}}
    assert charge["properties"] == kept
    assert charge["filters"][0]["properties"] == {"custom_properties": {"price": 2}}
    edit = browser.ok("/edit-charge/all", charge=charge["code"])
    browser.sent(f"/edit-charge/all?charge={charge['code']}", sent_by(edit))
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    assert charge["properties"] == kept
    assert "by the metric's own rules, price 2" in html.unescape(text_of(browser.ok("/plans/all")))
    edit = browser.ok("/edit-charge/all", charge=charge["code"])
    browser.sent(f"/edit-charge/all?charge={charge['code']}", {**dict(sent_by(edit)), "billed": "fee"})
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    assert (charge["pay_in_advance"], charge["invoiceable"], charge["properties"]) == (True, False, kept)


def test_another_model_keeps_the_properties_that_rules_look_at(browser, api, tokens):
    rules = {"total_units": "state.total_units + custom_properties.weight"}
    metric = {"name": "Calls", "code": "calls", "aggregation_type": "custom_agg"}
    browser.sent("/new-billable-metric", {**metric, **rules})
    made = api(api_metrics.show_billable_metric, code="calls")["billable_metric"]
    properties = {"amount": "1", "custom_properties": {"weight": 3}}
    charge = {"billable_metric_id": made["lago_id"], "charge_model": "standard", "properties": properties}
    head = {**HEAD, "amount_cents": 0, "pay_in_advance": False, "charges": [charge]}
    del head["amount"]
    api(api_plans.create_plan, {"plan": head})
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    path = f"/edit-charge/all?charge={charge['code']}"
    edit = sent_by(browser.ok("/edit-charge/all", charge=charge["code"]))
    browser.sent(path, {**dict(edit), "others:amount": "2"})
    (charge,) = api(api_plans.show_plan, code="all")["plan"]["charges"]
    assert charge["properties"] == {**properties, "amount": "2"}


def test_terms_beside_the_prices(browser, api, tokens):
    form = {**GRID, "options": "yes", "min_amount": "12.5", "pay_in_advance": "on"}
    browser.sent("/new-plan", form)
    plan, charge = api(api_plans.show_plan, code="payg")["plan"], charge_of(api)
    assert (plan["pay_in_advance"], charge["pay_in_advance"]) == (True, False), (
        "the plan's fee, not the charge"
    )
    assert charge["min_amount_cents"] == 1250
    edit = browser.ok("/edit-charge/payg", charge=charge_of(api)["code"])
    assert 'name="min_amount" value="12.5"' in edit
    path = f"/edit-charge/payg?charge={charge_of(api)['code']}"
    browser.sent(path, {**form, "min_amount": "", "billed": "invoice"})
    changed = charge_of(api)
    assert (changed["min_amount_cents"], changed["pay_in_advance"], changed["prorated"]) == (0, True, False)
    page = browser.refused(path, {**form, "billed": "invoice", "prorated": "on"})
    assert "Only recurring metrics are prorated" in page
    assert 'id="min_amount-error"' in page


def test_a_tier_that_ends_between_two_units_is_reported_by_the_audit_log_too(browser, tokens):
    tiers = {"others:to": ["0.5", ""], "others:price": ["2", "1"], "others:flat": ["", ""]}
    form = {**HEAD, "billable_metric_code": "tokens", "charge_model": "graduated", **tiers}
    browser.sent("/new-plan", form)
    assert '"to_value": 0.5' in html.unescape(browser.ok("/audit-log"))
