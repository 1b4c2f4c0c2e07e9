"""Billable metrics: the list, the form, the tester of events."""

from __future__ import annotations

import html
import json

import psycopg
import pytest

from permille.api import billable_metrics as api_metrics, plans as api_plans
from permille.events.postgres import rebuilding
from tests.rebuilding import rebuild_some

from .conftest import text_of

TOKENS = {
    "name": "Tokens",
    "code": "tokens",
    "aggregation_type": "sum_agg",
    "field_name": "tokens",
    "key": ["model", "type"],
    "values": ["8K, 32K", "input, output"],
}


def event(**properties) -> str:
    body = {
        "transaction_id": "t",
        "external_subscription_id": "s",
        "code": "tokens",
        "properties": properties,
    }
    return json.dumps({"event": body})


def test_an_empty_list_says_what_to_do(browser):
    page = browser.ok("/billable-metrics")
    assert "/app/new-billable-metric" in page
    assert "/app/templates" in page
    assert "curl" in page


def test_create_with_dimensions(browser, api):
    where = browser.sent("/new-billable-metric", TOKENS)
    assert where == "/app/billable-metrics/tokens?said=created"
    made = api(api_metrics.show_billable_metric, code="tokens")["billable_metric"]
    assert made["filters"] == [
        {"key": "model", "values": ["8K", "32K"]},
        {"key": "type", "values": ["input", "output"]},
    ]
    words = text_of(browser.ok("/billable-metrics/tokens"))
    assert "Dimension model 8K, 32K" in words
    assert "With every billing period" in words
    assert "Tokens tokens Sum of a property: tokens model (2), type (2) every period" in text_of(
        browser.ok("/billable-metrics")
    )


def test_what_is_wrong_is_shown_beside_the_field_and_nothing_typed_is_lost(browser):
    page = browser.refused("/new-billable-metric", {**TOKENS, "code": "", "field_name": ""})
    assert 'id="code-error"' in page
    assert 'id="field_name-error"' in page
    assert 'value="8K, 32K"' in page
    browser.sent("/new-billable-metric", TOKENS)
    assert "This is taken already." in text_of(browser.refused("/new-billable-metric", TOKENS))


def test_an_expression(browser, api):
    page = browser.refused("/new-billable-metric", {**TOKENS, "expression": "1 +"})
    assert 'id="expression-error"' in page
    browser.sent("/new-billable-metric", {**TOKENS, "expression": "event.properties.chars / 4"})
    words = text_of(browser.ok("/billable-metrics/tokens", event=event(chars=100, model="8K")))
    assert "Expression event.properties.chars / 4" in words
    assert "It counts: 25 Tokens." in words


def custom(**rules: str) -> dict[str, str]:
    return {"name": "Calls", "code": "tokens", "aggregation_type": "custom_agg", **rules}


def test_rules_of_your_own(browser, api):
    page = browser.refused("/new-billable-metric", custom(total_units="1 +", amount="if(1, 2, 3)"))
    assert 'id="total_units-error"' in page
    assert "Unexpected end at character 4." in text_of(page)
    assert ">if(1, 2, 3)</textarea>" in page
    assert 'id="total_units-error"' in browser.refused("/new-billable-metric", custom())
    rules = {
        "total_units": "state.total_units +\r\n event.properties.n",
        "amount": "if(custom_properties.price < 1, event.properties.n, 0)",
    }
    browser.sent("/new-billable-metric", custom(**rules))
    made = api(api_metrics.show_billable_metric, code="tokens")["billable_metric"]
    assert made["custom_aggregator"] == rules
    words = html.unescape(text_of(browser.ok("/billable-metrics/tokens", event=event(n="2.5"))))
    assert "What it counts By rules of your own" in words
    assert "Amount of an event if(custom_properties.price < 1, event.properties.n, 0)" in words
    assert "and no plan prices it yet" in words
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_currency": "USD", "amount": "0"}
    priced = {"billable_metric_code": "tokens", "charge_model": "custom"}
    properties = {"others:custom_properties": '{"price": 0.5}'}
    browser.sent("/new-plan", {**plan, **priced, **properties})
    words = html.unescape(text_of(browser.ok("/billable-metrics/tokens", event=event(n="2.5"))))
    assert "It counts: 2.5 Calls. The metric's own rules give it so many units and 2.5 to the amount" in words
    assert "by the metric's own rules, price 0.5" in words
    words = html.unescape(text_of(browser.ok("/billable-metrics/tokens", event=event(n="many"))))
    assert "It counts as nothing. The metric's own rules have no value for it" in words


def test_edit_the_dimensions(browser, api):
    browser.sent("/new-billable-metric", TOKENS)
    form = browser.ok("/edit-billable-metric/tokens")
    assert 'value="input, output"' in form
    changed = {"name": "LLM tokens", "key": ["model", ""], "values": ["8K, 32K, 128K", ""]}
    assert browser.sent("/edit-billable-metric/tokens", changed) == "/app/billable-metrics/tokens?said=saved"
    after = api(api_metrics.show_billable_metric, code="tokens")["billable_metric"]
    assert (after["name"], after["filters"]) == (
        "LLM tokens",
        [{"key": "model", "values": ["8K", "32K", "128K"]}],
    )


def test_the_tester_says_what_an_event_counts_and_costs(browser, api):
    browser.sent("/new-billable-metric", TOKENS)
    metric = api(api_metrics.show_billable_metric, code="tokens")["billable_metric"]
    prices = {"amount": "0.03", "package_size": 1000, "free_units": 0}
    plan = {
        "name": "Pro",
        "code": "pro",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [
            {
                "billable_metric_id": metric["lago_id"],
                "charge_model": "package",
                "properties": {**prices, "amount": "0.5"},
                "filters": [
                    {
                        "values": {"model": ["8K"]},
                        "properties": prices,
                        "invoice_display_name": "8K context",
                    }
                ],
            }
        ],
    }
    api(api_plans.create_plan, {"plan": plan})
    good = text_of(browser.ok("/billable-metrics/tokens", event=event(model="8K", type="input", tokens=1250)))
    assert "It counts: 1,250 Tokens." in good
    assert "On plan Pro : 8K context, $0.03 per 1,000; by itself it costs $0.06" in good
    strange = text_of(browser.ok("/billable-metrics/tokens", event=event(model="1M", tokens=5)))
    assert "model: 1M (not one of the metric's values)" in strange
    assert "the price of everything else, $0.50 per 1,000" in strange
    nothing = text_of(browser.ok("/billable-metrics/tokens", event=event(model="8K", tokens="many")))
    assert "It counts as nothing." in nothing
    broken = text_of(browser.ok("/billable-metrics/tokens", event="{"))
    assert "It would be refused" in broken
    missing = text_of(browser.ok("/billable-metrics/tokens", event='{"event": {"code": "tokens"}}'))
    assert "transaction_id: value_is_mandatory" in missing


@pytest.mark.parametrize("properties", [{}, {"user": ""}, {"user": None, "operation_type": "remove"}])
def test_the_tester_counts_no_event_without_a_value_that_is_paid_in_advance(browser, api, properties):
    metric = {"name": "Users", "code": "users", "aggregation_type": "unique_count_agg", "field_name": "user"}
    browser.sent("/new-billable-metric", metric)
    made = api(api_metrics.show_billable_metric, code="users")["billable_metric"]
    terms = {"billable_metric_id": made["lago_id"], "charge_model": "standard", "properties": {"amount": "1"}}
    in_advance = {**terms, "pay_in_advance": True}
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    pasted = event(**properties).replace('"tokens"', '"users"')
    api(api_plans.create_plan, {"plan": {**plan, "pay_in_advance": False, "charges": [in_advance]}})
    said = text_of(browser.ok("/billable-metrics/users", event=pasted))
    assert "It counts as nothing. It has no “user”, and the metric is paid in advance" in said
    both = {**plan, "code": "q", "pay_in_advance": False, "charges": [in_advance, terms]}
    api(api_plans.create_plan, {"plan": both})
    said = text_of(browser.ok("/billable-metrics/users", event=pasted))
    assert "It counts: " in said
    assert "Where the metric is paid in advance an event without “user” is not counted." in said


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"user": "ada"}, "It counts: 1 Users. Each different “user” counts once; this one is “ada”."),
        (
            {"user": None},
            "It counts: 1 Users. Each different “user” counts once; this one is the one without a value.",
        ),
        (
            {"user": "ada", "operation_type": "remove"},
            "It counts: 0 Users. From then on “ada” is not counted",
        ),
        ({"user": "ada", "operation_type": "x"}, "It counts as nothing. Its “operation_type” is neither"),
        ({}, "It counts: 1 Users. Each different “user” counts once; this one is the one without a value."),
    ],
)
def test_the_tester_says_what_billing_bills_for_values_that_count_once(browser, send, properties, said):
    metric = {"name": "Users", "code": "users", "aggregation_type": "unique_count_agg", "field_name": "user"}
    browser.sent("/new-billable-metric", metric)
    prices = {
        "billable_metric_code": "users",
        "charge_model": "standard",
        "price:others": "1",
        "unlisted_values": "free",
    }
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_currency": "USD", "amount": "0"}
    browser.sent("/new-plan", {**plan, **prices})
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme", "currency": "USD"})
    form = {"plan_code": "p", "external_id": "acme-1", "billing_time": "calendar"}
    browser.sent("/subscribe/acme", form)
    pasted = event(**properties).replace('"tokens"', '"users"')
    assert said in text_of(browser.ok("/billable-metrics/users", event=pasted))
    send("users", "acme-1", **properties)
    counted = "It counts: 1" in said
    assert f"acme-1 on P {'$1.00' if counted else '$0.00'}" in text_of(browser.ok("/customers/acme"))


def test_an_apostrophe_does_not_end_the_command(browser):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["L'Oréal", "input"]})
    command = browser.ok("/billable-metrics/tokens").split("<h3>curl</h3>")[1].split("</pre>")[0]
    body = html.unescape(command).split("-d '", 1)[1].removesuffix("'")
    assert "'" not in body
    assert json.loads(body)["event"]["properties"]["model"] == "L'Oréal"


def test_the_example_event_counts(browser):
    browser.sent("/new-billable-metric", TOKENS)
    page = browser.ok("/billable-metrics/tokens")
    assert "/api/v1/events" in page
    example = page.split("<textarea")[1].split(">", 1)[1].split("</textarea>")[0].replace("&#34;", '"')
    assert "It counts: 1,250 Tokens." in text_of(browser.ok("/billable-metrics/tokens", event=example))


def test_delete_and_roles(browser, reader):
    browser.sent("/new-billable-metric", TOKENS)
    assert browser.sent("/delete-billable-metric/tokens") == "/app/billable-metrics?said=deleted"
    assert browser.client.get("/app/billable-metrics/tokens").status_code == 404
    assert reader.post("/new-billable-metric", TOKENS).status_code == 403
    assert "New metric" not in text_of(reader.ok("/billable-metrics"))


def metric_of(api, code="tokens"):
    return api(api_metrics.show_billable_metric, code=code)["billable_metric"]


def test_an_expression_that_cannot_be_says_where(browser):
    page = browser.refused("/new-billable-metric", {**TOKENS, "expression": "event.properties.Big_One + )"})
    assert "Unexpected &#39;)&#39; at character 28." in page
    assert page.count('id="expression-error"') == 1
    rules = {"total_units": "state.Total_Units"}
    page = browser.refused("/new-billable-metric", custom(**rules))
    assert "Total_Units" in page.split('id="total_units-error"')[1].split("</div>")[0], "as it was typed"


@pytest.mark.parametrize("kind", ["sum_agg", "max_agg", "unique_count_agg", "weighted_sum_agg", "latest_agg"])
def test_every_aggregation_over_a_property_with_its_rounding(browser, api, kind):
    form = {**TOKENS, "aggregation_type": kind, "rounding_function": "ceil", "rounding_precision": "-3"}
    browser.sent("/new-billable-metric", form)
    made = metric_of(api)
    assert (made["aggregation_type"], made["rounding_function"], made["rounding_precision"]) == (
        kind,
        "ceil",
        -3,
    )
    assert made["weighted_interval"] == ("seconds" if kind == "weighted_sum_agg" else None)
    assert "Rounding Up, to -3 digits" in text_of(browser.ok("/billable-metrics/tokens"))


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"rounding_function": "round", "rounding_precision": "few"}, "rounding_precision"),
        ({"rounding_function": "round", "rounding_precision": "99"}, "rounding_precision"),
        ({"aggregation_type": "max_agg", "recurring": "on"}, "recurring"),
        ({"values": ["", "input"]}, "filters"),
        ({"key": ["", "type"]}, "filters"),
    ],
)
def test_what_is_wrong_is_reported_at_its_field(browser, typed, field):
    page = browser.refused("/new-billable-metric", {**TOKENS, **typed})
    assert page.count(f'id="{field}-error"') == 1
    for value in typed.values():
        for text in value if isinstance(value, list) else [value]:
            assert f'value="{text}"' in page or text == "on"


def test_what_no_plan_prices_can_be_changed(browser, api):
    browser.sent("/new-billable-metric", {**TOKENS, "recurring": "on", "rounding_function": "floor"})
    page = browser.ok("/edit-billable-metric/tokens")
    assert 'name="recurring" checked' in page
    assert '<option value="floor" selected' in page
    form = {**TOKENS, "aggregation_type": "unique_count_agg", "field_name": "user", "rounding_function": ""}
    assert "count_agg" in browser.refused("/edit-billable-metric/tokens", {**form, "field_name": ""})
    browser.sent("/edit-billable-metric/tokens", form)
    made = metric_of(api)
    assert (made["aggregation_type"], made["field_name"], made["recurring"], made["rounding_function"]) == (
        "unique_count_agg",
        "user",
        False,
        None,
    )


def test_of_what_a_plan_prices_only_names_and_dimensions_change_and_the_form_says_so(browser, api, gpt4):
    page = browser.ok("/edit-billable-metric/gpt_4_tokens")
    assert "can't be changed any more" in html.unescape(page)
    assert 'name="aggregation_type"' not in page
    before = metric_of(api, "gpt_4_tokens")
    form = {"name": "T", "key": ["model", "type"], "values": ["8K, 32K", "input, output, cached"]}
    browser.sent("/edit-billable-metric/gpt_4_tokens", form)
    after = metric_of(api, "gpt_4_tokens")
    assert (after["name"], after["aggregation_type"]) == ("T", before["aggregation_type"])


def test_an_edit_that_would_reprice_other_values_names_the_filters(browser, gpt4):
    form = {"name": "T", "key": ["model"], "values": ["8K, 32K"]}
    words = text_of(browser.refused("/edit-billable-metric/gpt_4_tokens", form))
    assert "usage of values that stay would cost something else" in words
    assert "Plan openai-gpt-4, charge gpt_4_tokens, filter GPT-4 8K context, input tokens." in words


def test_the_tester_says_what_would_be_paid_at_once(browser, send):
    browser.sent("/new-billable-metric", TOKENS)
    tiers = {"others:to": ["10", ""], "others:price": ["0", "0.5"], "others:flat": ["", ""]}
    form = {
        "billable_metric_code": "tokens",
        "charge_model": "graduated",
        "unlisted_values": "free",
        "options": "yes",
        "billed": "fee",
        **tiers,
    }
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_currency": "USD", "amount": "0"}
    browser.sent("/new-plan", {**plan, **form})
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    browser.sent("/subscribe/acme", {"plan_code": "p", "external_id": "s", "billing_time": "calendar"})
    send("tokens", "s", tokens=8)
    words = text_of(browser.ok("/billable-metrics/tokens", event=event(tokens=5)))
    assert "by itself it costs $0.00" in words
    assert "s would pay at once for 5 of Tokens, on top of what it has used: $1.50" in words


@pytest.mark.parametrize(
    "how",
    [
        {"expression": "round(event.properties.seconds / 60)"},
        {"aggregation_type": "custom_agg", "total_units": "state.total_units + event.properties.seconds"},
    ],
)
def test_the_example_has_what_expressions_and_rules_look_at(browser, how):
    browser.sent("/new-billable-metric", {**TOKENS, **how})
    page = browser.ok("/billable-metrics/tokens")
    example = html.unescape(page.split("<textarea")[1].split(">", 1)[1].split("</textarea>")[0])
    assert "It counts: " in text_of(browser.ok("/billable-metrics/tokens", event=example))


def test_a_history_that_is_being_sorted_is_reported(browser, send, monkeypatch):
    monkeypatch.setattr(rebuilding, "REENCODED_IN_PLACE_MAX", 1)
    browser.sent("/new-billable-metric", TOKENS)
    for region in ("eu", "us"):
        send("tokens", "acme-1", tokens=5, model="8K", type="input", region=region)
    words = "being sorted by the new dimensions"
    assert words not in browser.ok("/billable-metrics/tokens")
    fields = {"key": ["model", "type", "region"], "values": ["8K, 32K", "input, output", "eu, us"]}
    browser.sent("/edit-billable-metric/tokens", {**TOKENS, **fields})
    assert words in browser.ok("/billable-metrics/tokens")
    with psycopg.connect(browser.dsn, autocommit=True) as conn:
        while rebuild_some(conn):
            pass
    assert words not in browser.ok("/billable-metrics/tokens")
