"""The terms of a charge: filters one by one, grouping, when it is billed, taxes; and those of one subscription alone."""

from __future__ import annotations

import html
import re

import pytest

from permille.api import (
    billable_metrics as api_metrics,
    plans as api_plans,
    subscriptions as api_subscriptions,
    taxes as api_taxes,
)

from .conftest import sent_by, text_of
from .test_metrics import TOKENS
from .test_plans import GRID, HEAD, charge_of

SAME = {"metric": "tokens", "billable_metric_code": "tokens"}
EVERY = ["__ALL_FILTER_VALUES__"]


@pytest.fixture
def tokens(browser):
    browser.sent("/new-billable-metric", TOKENS)


def plan_with(api, **charge):
    metric = api(api_metrics.show_billable_metric, code="tokens")["billable_metric"]
    charges = [{"billable_metric_id": metric["lago_id"], **charge}]
    head = {**HEAD, "code": "payg", "amount_cents": 0, "pay_in_advance": False, "charges": charges}
    api(api_plans.create_plan, {"plan": head})
    return charge_of(api)


def edit(browser, code="tokens", **more):
    """Save the form as it is shown, with some fields changed."""
    sent = sent_by(browser.ok("/edit-charge/payg", charge=code))
    return browser.sent(f"/edit-charge/payg?charge={code}", {**sent, **more})


def own(amount, *keys, **values):
    properties = {
        "amount": amount,
        **({"pricing_group_keys": list(keys), "grouped_by": list(keys)} if keys else {}),
    }
    return {"values": values, "properties": properties, "invoice_display_name": None}


def filters_of(charge):
    kept = ("values", "properties", "invoice_display_name")
    return [{name: each[name] for name in kept} for each in charge["filters"]]


def test_filters_that_are_grouped_otherwise_than_the_charge_stay_so(browser, api, tokens):
    filters = [own("1", "team", model=["8K"]), own("2", type=["input"])]
    before = plan_with(
        api,
        charge_model="standard",
        properties={"amount": "3", "pricing_group_keys": ["user"]},
        filters=filters,
    )
    edit(browser)
    assert charge_of(api) == before, "saved as it was shown"
    edit(browser, **{"b1:groups": "user, team", "others:groups": ""})
    after = charge_of(api)
    assert filters_of(after) == [filters[0], own("2", "user", "team", type=["input"])]
    assert "pricing_group_keys" not in after["properties"]


def test_a_filter_is_added_to_the_grid_named_and_taken_away(browser, api, tokens):
    form = {**GRID, "metric": "tokens", "charge_model": "standard", "add": "filter"}
    page = browser.ok("/new-plan", **form, **{"added:model": " 8K, 32K", "added:type": "*"})
    assert "<legend>8K, 32K, any listed type</legend>" in page
    typed = sent_by(page)
    assert typed["others:amount"] == ["1"]
    (prefix,) = (
        name.removesuffix("values")
        for name, (text, *_) in typed.items()
        if name.endswith(":values") and '"32K"' in text and '"8K"' in text
    )
    browser.sent("/new-plan", {**typed, f"{prefix}amount": "0.5", f"{prefix}name": "Every kind"})
    charge = charge_of(api)
    assert [each["properties"]["amount"] for each in charge["filters"]] == [
        "0.06",
        "0.12",
        "0.03",
        "0.06",
        "0.5",
    ]
    last = filters_of(charge)[-1]
    assert last["values"] == {"model": ["8K", "32K"], "type": EVERY}
    assert last["invoice_display_name"] == "Every kind"
    assert "any listed type" in text_of(browser.ok("/plans/payg"))
    assert "__ALL_FILTER_VALUES__" not in browser.ok("/plans/payg")
    edit(browser)
    assert charge_of(api) == charge, "saved as it was shown"
    edit(browser, **{"b0:drop": "on"})
    assert filters_of(charge_of(api)) == filters_of(charge)[1:]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"added:model": "8K, 64K"}, "The metric doesn't list one of these values."),
        ({"added:model": "8K", "added:type": "input"}, "This is taken already."),
        ({"added:model": ""}, "Fill this in."),
    ],
)
def test_a_filter_that_cannot_be_is_reported_and_what_was_typed_stays(browser, tokens, typed, words):
    page = browser.ok("/new-plan", **{**GRID, "metric": "tokens", "add": "filter", **typed})
    assert f'id="added-error">{html.escape(words)}' in page.replace("&#39;", "&#x27;")
    assert 'value="0.06"' in page
    for name, text in typed.items():
        assert f'name="{name}" value="{text}"' in page


def test_a_third_dimension_is_priced(browser, api):
    regions = {"key": ["model", "region", "type"], "values": ["8K, 32K", "eu, us", "input"]}
    browser.sent("/new-billable-metric", {**TOKENS, **regions})
    page = browser.ok(
        "/new-plan",
        **{**HEAD, **SAME, "add": "filter", "added:model": "8K", "added:region": "eu"},
    )
    typed = sent_by(page)
    prefix = next(name for name, (text, *_) in typed.items() if '"eu"' in text).removesuffix("values")
    browser.sent("/new-plan", {**typed, "code": "payg", f"{prefix}amount": "0.5"})
    (only,) = charge_of(api)["filters"]
    assert only["values"] == {"model": ["8K"], "region": ["eu"]}


def test_a_dynamic_charge_gets_filters_too(browser, api, tokens):
    form = {**HEAD, **SAME, "code": "payg", "charge_model": "dynamic"}
    assert ":values" not in browser.ok("/new-plan", **form)
    page = browser.ok("/new-plan", **{**form, "add": "filter", "added:model": "8K"})
    browser.sent("/new-plan", sent_by(page))
    assert [each["values"] for each in charge_of(api)["filters"]] == [{"model": ["8K"]}]
    edit(browser, **{"b0:drop": "on"})
    assert charge_of(api)["filters"] == []


def test_a_charge_by_the_catalogue_stays_what_it_is_and_gets_another_markup(browser, api, tokens):
    terms = {
        "markup": "1.2",
        "markup_by": [{"provider": "openai", "markup": "1.5"}],
        "prices": [{"provider": "a", "model": "b", "type": "input", "amount": "0.4", "from": "2026-11-01"}],
        "unpriced": "free",
        "as_of": "2026-11-01",
    }
    before = plan_with(api, charge_model="catalogue", properties=terms)
    edit(browser)
    assert charge_of(api) == before, "saved as it was shown"
    edit(browser, **{"others:markup": "1.3"})
    after = charge_of(api)["properties"]
    assert {name: after[name] for name in terms} == {**terms, "markup": "1.3"}


def test_filters_of_another_metric_do_not_come_along(browser, tokens):
    browser.sent("/new-billable-metric", {**TOKENS, "code": "images", "key": "size", "values": "XL"})
    typed = {
        **HEAD,
        "billable_metric_code": "tokens",
        "metric": "images",
        "charge_model": "percentage",
        "b0:values": '{"model": ["8K"]}',
        "others:rate": "7",
    }
    page = browser.ok("/new-plan", **typed)
    assert "<legend>XL</legend>" in page
    assert "<legend>8K" not in page
    assert 'name="others:rate" value="7"' in page


@pytest.mark.parametrize(
    "values",
    [
        "[" * 100_000,
        "5",
        '{"model": 5}',
        '{"model": [5]}',
        '{"model": ["\\ud800"]}',
        "1e99999999999999999999",
    ],
)
def test_a_hidden_field_with_something_else_is_no_filter(browser, tokens, values):
    typed = {
        **HEAD,
        "billable_metric_code": "tokens",
        "charge_model": "standard",
        "b0:values": values,
        "b0:amount": "1",
        "others:amount": "1",
    }
    assert browser.post("/new-plan", typed).status_code in (303, 422)


def test_tiers_that_begin_where_the_last_one_ends_stay_so(browser, api, tokens):
    tiers = [
        {"from_value": 0, "to_value": 10, "rate": "1", "flat_amount": "0"},
        {"from_value": 10, "to_value": None, "rate": "2", "flat_amount": "0"},
    ]
    model = {"charge_model": "graduated_percentage", "properties": {"graduated_percentage_ranges": tiers}}
    before = plan_with(api, **model)
    edit(browser)
    assert charge_of(api) == before


@pytest.mark.parametrize(
    ("billed", "terms"),
    [
        ("", (False, True, None)),
        ("invoice", (True, True, None)),
        ("fee", (True, False, None)),
        ("gathered", (True, False, "invoice")),
    ],
)
def test_when_a_charge_is_billed(browser, api, tokens, billed, terms):
    browser.sent("/new-plan", {**GRID, "options": "yes", "billed": billed})
    charge = charge_of(api)
    assert (charge["pay_in_advance"], charge["invoiceable"], charge["regroup_paid_fees"]) == terms
    edit(browser)
    assert charge_of(api) == charge


def test_what_does_not_go_with_payment_at_once_is_reported_at_its_field(browser, tokens):
    volume = {"others:to": [""], "others:price": ["1"], "others:flat": [""], "charge_model": "volume"}
    page = browser.refused("/new-plan", {**GRID, **volume, "options": "yes", "billed": "fee"})
    assert page.count('id="billed-error"') == 1
    assert '<option value="fee" selected' in page


def test_grouping_and_taxes_of_a_grid(browser, api, tokens):
    api(api_taxes.create_tax, {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
    api(api_taxes.create_tax, {"tax": {"name": "City", "code": "city", "rate": "1.5"}})
    taxed = {"plan_taxes": "yes", "plan_tax": ["vat", "city"], "charge_taxes": "yes", "charge_tax": "city"}
    browser.sent("/new-plan", {**GRID, **taxed, "pricing_group_keys": "project, "})
    plan, charge = api(api_plans.show_plan, code="payg")["plan"], charge_of(api)
    assert [tax["code"] for tax in plan["taxes"]] == ["city", "vat"]
    assert [tax["code"] for tax in charge["taxes"]] == ["city"]
    assert {tuple(each["properties"]["pricing_group_keys"]) for each in charge["filters"]} == {("project",)}
    page = browser.ok("/edit-charge/payg", charge="tokens")
    assert re.findall(r'name="charge_tax" value="(\w+)" checked', page) == ["city"]
    assert 'name="price:0:0"' in page, "what is grouped alike fits the grid"
    words = text_of(browser.ok("/plans/payg"))
    assert "Each project is priced by itself. City, 1.5 %." in words
    edit(browser, charge_tax=["vat"])
    assert [tax["code"] for tax in charge_of(api)["taxes"]] == ["vat"]
    edit(browser, charge_tax=[])
    assert charge_of(api)["taxes"] == [], "no box is ticked"
    browser.sent("/edit-plan/payg", {"name": "P", "amount": "0", "plan_taxes": "yes"})
    assert api(api_plans.show_plan, code="payg")["plan"]["taxes"] == []


def test_a_charge_is_taken_away(browser, api, tokens):
    browser.sent("/new-plan", GRID)
    assert "Take this charge out" in browser.ok("/edit-charge/payg", charge="tokens")
    assert browser.sent("/delete-charge/payg", {"charge": "tokens"}) == "/app/plans/payg?said=deleted"
    assert api(api_plans.show_plan, code="payg")["plan"]["charges"] == []
    assert browser.post("/delete-charge/payg", {"charge": "tokens"}).status_code == 404


def test_the_terms_of_a_plan(browser, api, tokens):
    terms = {
        "interval": "yearly",
        "bill_charges_monthly": "on",
        "trial_period": "14",
        "plan_invoice_name": "Y",
    }
    browser.sent("/new-plan", {**GRID, **terms})

    def plan():
        found = api(api_plans.show_plan, code="payg")["plan"]
        return (
            found["interval"],
            found["bill_charges_monthly"],
            found["trial_period"],
            found["invoice_display_name"],
            found["pay_in_advance"],
        )

    assert plan() == ("yearly", True, 14.0, "Y", False)
    words = text_of(browser.ok("/plans/payg"))
    assert "billed each month" in words
    page = browser.ok("/edit-plan/payg")
    assert 'name="trial_period" value="14"' in page
    browser.sent(
        "/edit-plan/payg", {"name": "P", "amount": "0", "interval": "weekly", "pay_in_advance": "on"}
    )
    assert plan() == ("weekly", None, None, None, True)
    wrong = browser.refused(
        "/edit-plan/payg", {"name": "P", "amount": "0", "interval": "weekly", "trial_period": "x"}
    )
    assert 'id="trial_period-error"' in wrong
    assert 'name="trial_period" value="x"' in wrong


def test_with_subscriptions_the_forms_say_what_stays(browser, api, gpt4):
    page = browser.ok("/edit-plan/openai-gpt-4")
    assert "can't be changed any more" in html.unescape(text_of(page))
    assert 'name="interval"' not in page
    code = api(api_plans.show_plan, code="openai-gpt-4")["plan"]["charges"][0]["code"]
    words = html.unescape(text_of(browser.ok("/edit-charge/openai-gpt-4", charge=code)))
    assert "can't be changed any more" in words
    assert "when it is billed (at the end of the period)" in words


def test_percentages_are_calculated_event_by_event(browser, api, tokens):
    terms = {
        "rate": "2",
        "fixed_amount": "0.5",
        "free_units_per_events": 1,
        "per_transaction_max_amount": "1",
    }
    plan_with(api, charge_model="percentage", properties=terms)
    words = text_of(browser.ok("/plans/payg", **{"tokens:0": "300", "tokens:0:events": "3"}))
    assert "2 %, $0.50 an event 1 events free an event costs at most $1.00" in words
    assert "$2.00 for the units above" in words, "one is free, the others would cost 2.50 each"
    words = text_of(browser.ok("/plans/payg", **{"tokens:0": "300", "tokens:0:events": "none"}))
    assert "Give a number" in words


@pytest.fixture
def subscribed(browser, api, tokens):
    browser.sent("/new-plan", {**GRID, "amount": "10", "charge_model": "standard"})
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    for external_id in ("acme-1", "acme/2"):
        browser.sent(
            "/subscribe/acme", {"plan_code": "payg", "external_id": external_id, "billing_time": "calendar"}
        )


def plan_of(api, external_id):
    return api(api_subscriptions.show_subscription, external_id=external_id)["subscription"]["plan"]


def test_a_subscription_gets_prices_of_its_own(browser, api, subscribed):
    assert "/app/own-plan/acme%2F2" in browser.ok("/customers/acme", tab="subscriptions")
    assert "as for everybody" in text_of(browser.ok("/own-plan/acme%2F2"))
    path = "/edit-own-charge/acme%2F2?charge=tokens"
    page = browser.ok("/edit-own-charge/acme%2F2", charge="tokens")
    assert "counts for acme/2 alone" in text_of(page)
    sent = {**sent_by(page), "price:0:0": "0.01", "min_amount": "25"}
    assert "price:0:0" in browser.refused(path, {**sent, "price:0:0": "cheap"})
    assert browser.confirmed(path, sent) == "/app/own-plan/acme%2F2?said=saved"
    mine, theirs = plan_of(api, "acme/2"), plan_of(api, "acme-1")
    assert mine["charges"][0]["filters"][0]["properties"]["amount"] == "0.01"
    assert mine["charges"][0]["min_amount_cents"] == 2500
    assert theirs["charges"][0]["filters"][0]["properties"]["amount"] == "0.06"
    words = text_of(browser.ok("/customers/acme", tab="subscriptions"))
    assert words.count("own prices") == 1
    words = text_of(browser.ok("/own-plan/acme%2F2"))
    assert "This subscription has a plan of its own" in words
    assert "At least $25.00 a period." in words


def test_a_subscription_gets_a_fee_of_its_own(browser, api, subscribed):
    page = browser.ok("/edit-own-plan/acme-1")
    assert 'value="10.00"' in page
    assert "zero" in browser.refused("/edit-own-plan/acme-1", {"amount": "zero"})
    browser.confirmed("/edit-own-plan/acme-1", {"amount": "7.5", "plan_invoice_name": "Special"})
    mine = plan_of(api, "acme-1")
    assert (mine["amount_cents"], mine["invoice_display_name"]) == (750, "Special")
    assert plan_of(api, "acme/2")["amount_cents"] == 1000
    page = browser.ok("/edit-plan/payg")
    assert "Also for the 1 subscription with a plan of their own" in text_of(page)
    browser.confirmed("/edit-plan/payg", {"name": "P", "amount": "12", "cascade": "on"})
    assert plan_of(api, "acme/2")["amount_cents"] == 1200
    assert plan_of(api, "acme-1")["amount_cents"] == 750, "its own stays"
    sent = sent_by(browser.ok("/edit-charge/payg", charge="tokens"))
    browser.confirmed("/edit-charge/payg?charge=tokens", {**sent, "price:others": "9"})
    assert plan_of(api, "acme-1")["charges"][0]["properties"]["amount"] == "1"
    browser.confirmed("/edit-charge/payg?charge=tokens", {**sent, "price:others": "1"})
    browser.confirmed("/edit-charge/payg?charge=tokens", {**sent, "price:others": "8", "cascade": "on"})
    assert plan_of(api, "acme-1")["charges"][0]["properties"]["amount"] == "8"


def test_who_only_reads_changes_no_prices(reader):
    for path in ("/edit-own-charge/x?charge=y", "/edit-own-plan/x", "/delete-charge/x"):
        assert reader.post(path).status_code == 403
    assert reader.client.get("/app/own-plan/none").status_code == 404


def test_the_usage_of_a_subscription_whose_plan_is_deleted(browser, api, subscribed):
    browser.sent("/delete-plan/payg")
    page = browser.ok("/customers/acme", subscription="acme-1")
    assert "This subscription isn&#39;t active" in page or "This subscription isn't active" in page


def test_a_new_charge_says_what_is_done_with_values_that_no_price_lists(browser, api, tokens):
    page = browser.ok("/new-plan")
    for choice in ("held", "default", "free"):
        assert f'name="unlisted_values" value="{choice}" required>' in page, "nothing is chosen beforehand"
    unsaid = {name: value for name, value in GRID.items() if name != "unlisted_values"}
    assert "Choose what is done with values that no price lists." in browser.refused("/new-plan", unsaid)
    browser.sent("/new-plan", {**GRID, "unlisted_values": "held"})
    assert charge_of(api)["unlisted_values"] == "held"
    page = browser.ok("/edit-charge/payg", charge="tokens")
    assert 'value="held" required checked' in page
    edit(browser)
    assert charge_of(api)["unlisted_values"] == "held", "saved as it was shown"
    edit(browser, unlisted_values="default")
    assert charge_of(api)["unlisted_values"] == "default"
    assert "Choose what" in browser.refused("/add-charge/payg", {**unsaid, **SAME})


def test_a_metric_without_dimensions_has_nothing_to_choose(browser, api):
    browser.sent("/new-billable-metric", {**TOKENS, "key": [""], "values": [""]})
    assert 'name="unlisted_values"' not in browser.ok("/new-plan")


WHEN = [
    ({"effective": "next_period"}, 1),
    ({"effective": "now"}, 0),
    ({"effective": "day", "effective_at": "2030-01-01"}, 1),
]


@pytest.fixture
def running(browser, api, tokens):
    """One subscription runs on the plan."""
    browser.sent("/new-plan", GRID)
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    browser.sent("/subscribe/acme", {"plan_code": "payg", "external_id": "sub"})


def plan(api):
    return api(api_plans.show_plan, code="payg")["plan"]


@pytest.mark.parametrize(("when", "changes"), WHEN)
def test_what_new_prices_change_is_seen_before_they_are_saved(browser, api, running, when, changes):
    before = charge_of(api)
    first = before["filters"][0]["properties"]["amount"]
    shown = browser.ok("/edit-charge/payg", charge="tokens")
    assert "Before anything is saved, you see what changes" in text_of(shown)
    path = "/edit-charge/payg?charge=tokens"
    page = browser.post(path, {**sent_by(shown), "price:0:0": "7"}).text
    assert "1 running subscription has this plan" in html.unescape(text_of(page))
    assert charge_of(api) == before, "nothing is saved yet"
    assert sent_by(page)["effective"] == ["next_period"], "running bills stay unless it is said"
    assert sent_by(page)["price:0:0"] == ["7"]
    assert browser.sent(path, {**sent_by(page), **when}) == "/app/plans/payg?said=saved"
    amount = charge_of(api)["filters"][0]["properties"]["amount"]
    assert amount == ("7" if when["effective"] == "now" else first)
    assert len(plan(api)["scheduled_changes"]) == changes


@pytest.mark.parametrize(("when", "changes"), WHEN)
@pytest.mark.parametrize("path", ["/edit-plan/payg", "/edit-own-plan/sub"])
def test_what_a_new_subscription_fee_changes_is_seen_before_it_is_saved(
    browser, running, path, when, changes
):
    page = browser.post(path, {**sent_by(browser.ok(path)), "amount": "31"})
    words = html.unescape(text_of(page.text))
    assert "Nothing is saved yet" in words
    assert "with the subscription fee that is billed next" in words
    assert 'value="31"' not in browser.ok(path), "nothing is saved yet"
    assert browser.sent(path, {**sent_by(page.text), **when}).endswith("?said=saved")
    is_now = when["effective"] == "now"
    assert ('value="31.00"' in browser.ok(path)) is is_now
    kept = "select count(*) from plan where organization_id = %s and version_of is not null and deleted_at is null"
    assert browser.row(kept, browser.organization.id) == (changes,)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/edit-plan/payg", "amount"),
        ("/edit-own-plan/sub", "amount"),
        ("/edit-charge/payg?charge=tokens", "price:0:0"),
        ("/edit-own-charge/sub?charge=tokens", "price:0:0"),
    ],
)
def test_prices_of_today_are_scheduled_behind_others(browser, running, path, name):
    today = sent_by(browser.ok(path.split("?")[0], charge="tokens"))
    browser.confirmed(path, {**today, name: "31"}, effective="day", effective_at="2030-01-01")
    page = browser.post(path, today).text
    assert "Other prices are scheduled from 1 Jan 2030." in text_of(page)
    browser.sent(path, {**sent_by(page), "effective": "day", "effective_at": "2030-03-01"})
    kept = "select count(*) from plan where organization_id = %s and version_of is not null and deleted_at is null"
    assert browser.row(kept, browser.organization.id) == (2,)


@pytest.mark.parametrize("path", ["/edit-plan/payg", "/edit-own-plan/sub"])
def test_what_costs_nothing_is_saved_at_once(browser, running, path):
    named = {**sent_by(browser.ok(path)), "plan_invoice_name": "Tokens"}
    assert browser.sent(path, named).endswith("?said=saved")


@pytest.mark.parametrize(("when", "changes"), WHEN)
def test_what_a_new_charge_changes_is_seen_before_it_is_saved(browser, api, running, when, changes):
    assert "Before anything is saved" in text_of(browser.ok("/add-charge/payg", metric="tokens"))
    page = browser.post("/add-charge/payg", GRID).text
    assert "What the new charge changes" in page
    assert len(plan(api)["charges"]) == 1, "nothing is saved yet"
    assert browser.sent("/add-charge/payg", {**sent_by(page), **when}) == "/app/plans/payg?said=saved"
    assert len(plan(api)["charges"]) == 2 - changes
    assert len(plan(api)["scheduled_changes"]) == changes
    browser.confirmed("/add-charge/payg", {**GRID, "min_amount": "1"}, **when)
    later = plan(api)["scheduled_changes"]
    codes = [each["code"] for each in (later[-1]["charges"] if later else plan(api)["charges"])]
    assert sorted(codes) == ["tokens", "tokens_2", "tokens_3"], "a code that is scheduled is taken"


@pytest.mark.parametrize(("when", "changes"), WHEN)
def test_what_it_changes_to_take_a_charge_out_is_seen_before(browser, api, running, when, changes):
    assert "data-confirm" not in browser.ok("/edit-charge/payg", charge="tokens").split("<main", 1)[1]
    page = browser.post("/delete-charge/payg", {"charge": "tokens"}).text
    assert "What it changes to take tokens out" in page
    assert len(plan(api)["charges"]) == 1, "nothing is saved yet"
    assert browser.sent("/delete-charge/payg", {**sent_by(page), **when}) == "/app/plans/payg?said=deleted"
    assert len(plan(api)["charges"]) == changes
    assert len(plan(api)["scheduled_changes"]) == changes


@pytest.mark.parametrize(
    ("when", "shown"), [(WHEN[0][0], "From 1 Mar 2024"), (WHEN[2][0], "From 1 Jan 2030")]
)
def test_a_change_to_come_is_shown_with_the_plan_and_cancelled(browser, api, running, when, shown):
    before = plan(api)
    sent = {**sent_by(browser.ok("/edit-charge/payg", charge="tokens")), "price:0:0": "7.25"}
    browser.confirmed("/edit-charge/payg?charge=tokens", sent, effective="day", effective_at="2030-01-01")
    page = browser.ok("/plans/payg")
    assert "From 1 Jan 2030" in text_of(page)
    assert "$7.25" in text_of(page)
    (change,) = re.findall(r'name="change" value="([^"]+)"', page)
    assert browser.post("/cancel-price-change/payg", {"change": "x"}).status_code == 404
    to = "/app/plans/payg?said=change_cancelled"
    assert browser.sent("/cancel-price-change/payg", {"change": change}) == to
    assert plan(api)["charges"] == before["charges"]
    assert not plan(api)["scheduled_changes"]
    assert "Scheduled changes" not in browser.ok("/plans/payg")


@pytest.mark.parametrize(
    ("path", "name"), [("/edit-plan/payg", "amount"), ("/edit-charge/payg?charge=tokens", "price:0:0")]
)
def test_what_is_scheduled_is_shown_also_where_it_is_the_price_of_now(browser, running, path, name):
    sent = {**sent_by(browser.ok(path.split("?")[0], charge="tokens")), name: "7.25"}
    browser.confirmed(path, sent, effective="day", effective_at="2030-01-01")
    browser.confirmed(path, sent, effective="now")
    scheduled = browser.ok("/plans/payg").split('id="scheduled"')[1]
    assert "From 1 Jan 2030" in text_of(scheduled)
    assert "$7.25" in text_of(scheduled.split("</dl>")[0])


def test_one_subscription_cancels_what_the_plan_keeps(browser, api, running):
    browser.confirmed(
        "/edit-plan/payg", {**sent_by(browser.ok("/edit-plan/payg")), "amount": "9"}, **WHEN[2][0]
    )
    page = browser.ok("/own-plan/sub")
    assert "$9.00" in text_of(page)
    (change,) = re.findall(r'name="change" value="([^"]+)"', page)
    to = "/app/own-plan/sub?said=change_cancelled"
    assert browser.sent("/cancel-own-price-change/sub", {"change": change}) == to
    assert "Scheduled changes" not in browser.ok("/own-plan/sub")
    assert len(plan(api)["scheduled_changes"]) == 1


@pytest.mark.parametrize("day", ["", "soon"])
@pytest.mark.parametrize("path", ["/edit-charge/payg?charge=tokens", "/delete-charge/payg"])
def test_a_day_that_is_none_saves_nothing_and_is_asked_for_again(browser, api, running, path, day):
    before = plan(api)
    sent = {**sent_by(browser.ok("/edit-charge/payg", charge="tokens")), "price:0:0": "7", "charge": "tokens"}
    page = browser.refused(path, {**sent, "effective": "day", "effective_at": day})
    assert 'id="effective_at-error"' in page
    assert 'name="effective" value="day" checked' in page
    assert plan(api) == before
    kept = {name: text for name, text in sent_by(page).items() if name != "effective_at"}
    assert browser.sent(path, {**kept, "effective": "now"})
    assert plan(api)["charges"] != before["charges"]


def test_what_can_not_wait_is_only_saved_at_once(browser, api, running):
    sent = {**sent_by(browser.ok("/edit-charge/payg", charge="tokens")), "charge_name": "Other"}
    page = browser.post("/edit-charge/payg?charge=tokens", sent).text
    assert re.findall(r'name="effective" value="(\w+)"', page) == ["now"]
    assert "can only change at once" in page
    browser.sent("/edit-charge/payg?charge=tokens", sent_by(page))
    assert charge_of(api)["invoice_display_name"] == "Other"


def test_what_is_wrong_is_said_before_the_effect(browser, running):
    sent = {**sent_by(browser.ok("/edit-charge/payg", charge="tokens")), "price:0:0": "cheap"}
    assert 'id="price:0:0-error"' in browser.refused("/edit-charge/payg?charge=tokens", sent)


def test_once_nobody_runs_on_the_plan_prices_are_saved_at_once(browser, api, running):
    browser.sent("/end-subscription/sub")
    sent = {**sent_by(browser.ok("/edit-charge/payg", charge="tokens")), "price:0:0": "7"}
    assert browser.sent("/edit-charge/payg?charge=tokens", sent) == "/app/plans/payg?said=saved"
    assert charge_of(api)["filters"][0]["properties"]["amount"] == "7"


def test_a_charge_says_how_its_lines_are_rounded(browser, api, tokens):
    page = browser.ok("/new-plan")
    assert (
        '<option value="per_fee">Each line by itself' in page or '<option value="per_fee" selected>' in page
    )
    assert "only billed in full if they are rounded together" in page
    browser.sent("/new-plan", {**GRID, "rounding": "per_charge"})
    assert charge_of(api)["rounding"] == "per_charge"
    assert "Its lines are rounded together." in browser.ok("/plans/payg")
    edit(browser)
    assert charge_of(api)["rounding"] == "per_charge", "saved as it was shown"
    edit(browser, rounding="per_fee")
    assert charge_of(api)["rounding"] == "per_fee"
