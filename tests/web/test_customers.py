"""Customers: the list, the forms, subscriptions, the Usage tab and the test clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

import permille.web
from permille.api import billable_metrics, plans, subscriptions
from permille.api.validation import country_codes

from .conftest import START, sent_by, text_of
from .test_metrics import TOKENS
from .test_plans import GRID

TEMPLATES = Path(permille.web.__file__).with_name("templates")


def test_an_empty_list_says_what_to_do(browser):
    page = browser.ok("/customers")
    assert "/app/new-customer" in page
    assert "curl" in page


def test_create_find_and_edit(browser):
    form = {"external_id": "acme", "name": "Acme <Chat>", "currency": "EUR", "timezone": "Europe/Paris"}
    assert browser.sent("/new-customer", form) == "/app/customers/acme?tab=subscriptions&said=saved"
    assert "Acme &lt;Chat&gt;" in browser.ok("/customers", q="chat")
    assert "No customer has" in text_of(browser.ok("/customers", q="nobody"))
    browser.sent("/edit-customer/acme", {"name": "Acme", "city": "Paris", "country": "FR", "timezone": ""})
    words = text_of(browser.ok("/customers/acme", tab="details"))
    assert "Paris, France" in words
    assert browser.client.get("/app/customers/nobody").status_code == 404


@pytest.mark.parametrize("path", ["/new-customer", "/edit-customer/acme", "/settings"])
def test_a_country_is_chosen_by_its_name(browser, path):
    browser.sent("/new-customer", {"external_id": "acme", "country": "ci"})
    page = browser.ok(path)
    assert "Two letters" not in page
    (menu,) = re.findall(r'<select id="country".*?</select>', page, re.DOTALL)
    listed = re.findall(r'<option value="(\w*)"( selected)?>([^<]+)</option>', menu)
    assert {code for code, _, _ in listed} == country_codes() | {""}
    names = {code: name for code, _, name in listed}
    assert (names["DE"], names["CI"]) == ("Germany", "Côte d’Ivoire")
    order = [code for code, _, _ in listed]
    assert order.index("AF") < order.index("AX") < order.index("AL") < order.index("ZW"), (
        "accents don't count"
    )
    if path == "/edit-customer/acme":
        assert [code for code, selected, _ in listed if selected] == ["CI"]


def test_a_country_that_was_saved_before_is_kept(browser):
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme", "country": "DE"})
    with psycopg.connect(browser.dsn, autocommit=True) as conn:
        conn.execute(
            "update customer set country = 'ZZ' where organization_id = %s", [browser.organization.id]
        )
    page = browser.ok("/edit-customer/acme")
    assert '<option value="ZZ" selected>' in page


def test_no_form_of_the_admin_asks_for_a_country_as_text():
    for path in TEMPLATES.rglob("*.html"):
        assert "input('country'" not in path.read_text(), path.name


def test_what_is_wrong_is_shown_beside_the_field_and_nothing_typed_is_lost(browser):
    page = browser.refused(
        "/new-customer", {"external_id": "", "name": "Kept", "currency": "USD", "country": "Utopia"}
    )
    assert 'id="external_id-error"' in page
    assert 'id="country-error"' in page
    assert 'value="Kept"' in page
    assert '<option value="USD" selected>' in page


def test_who_is_there_already_is_not_overwritten(browser):
    browser.sent("/new-customer", {"external_id": "taken", "name": "First", "city": "Lyon"})
    page = browser.refused("/new-customer", {"external_id": "taken", "name": "Second", "city": "Bern"})
    assert '<p class="error" id="external_id-error">This is taken already.</p>' in page
    assert 'value="Second"' in page
    assert 'value="First"' in browser.ok("/edit-customer/taken")


def test_lists_page(browser):
    for number in range(30):
        browser.sent("/new-customer", {"external_id": f"c{number:02}"})
    assert "Page 1 of 2" in text_of(browser.ok("/customers"))
    assert browser.ok("/customers", page="2").count('<tr><th scope="row">') == 5


def test_external_ids_of_any_kind(browser):
    browser.sent("/new-customer", {"external_id": "a/b c?d"})
    assert "a/b c?d" in text_of(browser.ok("/customers/a%2Fb%20c%3Fd"))


def test_the_usage_tab_shows_what_the_api_says(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="input", tokens=1_250_000)
    send("gpt_4_tokens", "acme-1", model="32K", type="output", tokens=1_001)
    send("gpt_4_tokens", "acme-1", START + timedelta(days=2), model="32K", type="output", tokens=999)
    page = browser.ok("/customers/acme")
    words = text_of(page)
    assert "8K input 1,250,000 1 $0.03 per 1,000 $37.50" in words
    assert "32K output 2,000 2 $0.12 per 1,000 $0.24" in words
    assert "$37.74 1 Oct 2026 to 31 Oct 2026" in words
    assert "1 Oct, 8K: 1,250,000" in page
    assert "3 Oct, 32K: 999" in page


def test_usage_of_other_dimensions_is_shown_apart(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="128K", type="input", tokens=5)
    assert "everything else 5 1 $0.00 per 1,000 $0.00" in text_of(browser.ok("/customers/acme"))


def test_the_clock_moves_to_the_end_of_the_period_and_the_past_is_shown(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    assert "1 Oct 2026, 12:00" in text_of(browser.ok("/customers"))
    form = {"to": "period", "back": "/app/customers/acme?tab=usage"}
    assert browser.sent("/test-clock", form) == "/app/customers/acme?tab=usage&said=moved"
    words = text_of(browser.ok("/customers/acme"))
    assert "1 Nov 2026, 00:00" in words
    assert (
        "1 Oct 2026 to 31 Oct 2026 GPT-4: 10,000 for $0.60 10,000 GPT-4 8K context, output tokens: $0.60 $0.60 Invoice"
        in words
    )
    assert "$0.60" in text_of(browser.ok("/customers/acme", tab="invoices"))


def test_other_ways_to_move_the_clock(browser, gpt4):
    browser.sent("/test-clock", {"to": "day", "back": "/app/customers"})
    browser.sent("/test-clock", {"to": "week", "back": "//evil.example"})
    browser.sent("/test-clock", {"to": "given", "now": "2026-10-20 08:00"})
    assert "20 Oct 2026, 08:00" in text_of(browser.ok("/customers"))
    assert "can't go back" in text_of(
        browser.refused("/test-clock", {"to": "given", "now": "2026-10-19"})
    ).replace("&#39;", "'")
    assert "Give a date" in text_of(browser.refused("/test-clock", {"to": "given", "now": "soon"}))


def test_without_a_subscription_no_period_ends(browser):
    assert "no active subscription" in text_of(browser.refused("/test-clock", {"to": "period"}))


def test_a_live_organization_has_no_clock(server):
    from .conftest import join

    live = join(server, test_mode=False)
    assert "Test clock" not in live.ok("/customers")
    assert live.post("/test-clock", {"to": "day"}).status_code == 422


def test_subscribe_and_end(browser, gpt4):
    page = browser.refused("/subscribe/acme", {"plan_code": "none", "external_id": ""})
    assert "external_id-error" in page
    assert "There is no such plan" in browser.refused(
        "/subscribe/acme", {"plan_code": "none", "external_id": "x"}
    )
    assert "active" in text_of(browser.ok("/customers/acme", tab="subscriptions"))
    browser.sent("/end-subscription/acme-1", {"status": "active"})
    assert "terminated" in text_of(browser.ok("/customers/acme", tab="subscriptions"))
    assert browser.post("/end-subscription/acme-1", {"status": "active"}).status_code == 404


def test_delete(browser, gpt4):
    assert browser.sent("/delete-customer/acme") == "/app/customers?said=deleted"
    assert browser.client.get("/app/customers/acme").status_code == 404


def test_days_are_the_customers(browser, gpt4, send):
    browser.sent("/edit-customer/acme", {"timezone": "America/Los_Angeles"})
    send("gpt_4_tokens", "acme-1", datetime(2026, 10, 6, 5, tzinfo=UTC), model="8K", type="input", tokens=7)
    assert "5 Oct, 8K: 7" in browser.ok("/customers/acme")


def subscribed(api, metric, **subscription):
    """Acme on a plan with one charge on a new metric."""
    made = api(billable_metrics.create_billable_metric, {"billable_metric": {"name": "Users", **metric}})
    charge = {
        "billable_metric_id": made["billable_metric"]["lago_id"],
        "charge_model": "standard",
        "properties": {"amount": "1"},
    }
    plan = {
        "name": "Pro",
        "code": "pro",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [charge],
    }
    api(plans.create_plan, {"plan": plan})
    body = {"external_customer_id": "acme", "plan_code": "pro", "external_id": "acme-1", **subscription}
    api(subscriptions.create_subscription, {"subscription": body})


def test_distinct_values_of_a_day_are_charted_not_events(browser, api, send):
    subscribed(api, {"code": "users", "aggregation_type": "unique_count_agg", "field_name": "user"})
    for user in ("a", "a", "a", "b"):
        send("users", "acme-1", user=user)
    send("users", "acme-1", START + timedelta(days=1), user="a")
    page = browser.ok("/customers/acme")
    assert "1 Oct, all: 2" in page
    assert "2 Oct, all: 1" in page


def test_what_is_carried_over_is_charted_up_to_today(browser, api, send):
    metric = {"code": "seats", "aggregation_type": "sum_agg", "field_name": "seats", "recurring": True}
    subscribed(api, metric)
    send("seats", "acme-1", seats=5)
    browser.sent("/test-clock", {"to": "given", "now": "2026-10-03 08:00"})
    page = browser.ok("/customers/acme")
    assert all(f"{day} Oct, all: 5" in page for day in (1, 2, 3))
    assert "4 Oct, all: 5" not in page


def test_a_plan_of_ones_own_is_shown(browser, api, send):
    overrides = {"amount_cents": 100}
    metric = {"code": "users", "aggregation_type": "count_agg"}
    subscribed(api, metric, plan_overrides=overrides)
    send("users", "acme-1")
    assert "Users 1 1 $1.00" in text_of(browser.ok("/customers/acme"))


def test_usage_in_groups_at_its_pace_and_since_the_beginning(browser, send):
    browser.sent("/new-billable-metric", {**TOKENS, "values": ["32K, 8K", "input, output"]})
    form = {**GRID, "charge_model": "standard", "amount": "10", "pricing_group_keys": "project"}
    browser.sent("/new-plan", form)
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD"})
    browser.sent("/subscribe/acme", {"plan_code": "payg", "external_id": "a", "billing_time": "calendar"})
    send("tokens", "a", model="8K", type="input", tokens=100, project="chatbot")
    send("tokens", "a", model="8K", type="input", tokens=300)
    send("tokens", "a", model="64K", type="input", tokens=2, project="chatbot")
    words = text_of(browser.ok("/customers/acme"))
    assert "8K input project chatbot 100 1 $0.03 each $3.00" in words
    assert "8K input no project 300 1 $0.03 each $9.00" in words
    assert "everything else project chatbot 2 1 $1.00 each $2.00" in words
    assert "Usage before tax $14.00" in words
    assert "At this pace by the end of the period $374.00" in words, (
        "12 dollars on the first of 31 days, and 2"
    )
    assert "What is priced as everything else is in the pace as it is now." in words
    assert "Since the subscription began $14.00" in words
    assert "Subscription fee, not in these figures $10.00" in words


def test_an_absurd_amount_is_shown_and_its_billing_is_said_to_wait(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="input", tokens=10**25)
    assert "$300,000,000,000,000,000,000.00" in text_of(browser.ok("/customers/acme"))
    assert "cannot be billed" not in text_of(browser.ok("/customers/acme"))
    browser.sent("/test-clock", {"to": "period", "back": "/app/customers/acme"})
    words = text_of(browser.ok("/customers/acme"))
    assert "What is due since 1 Nov 2026 cannot be billed: " in words
    browser.ok("")
    browser.sent("/test-clock", {"to": "week", "back": "/app/"})
    assert "cannot be billed: " in text_of(browser.ok("/customers/acme", tab="invoices"))


def test_another_plan_for_a_running_subscription_is_asked_before_it_is_done(browser, gpt4):
    for name, amount in (("dear", "50"), ("cheap", "10")):
        browser.sent(
            "/new-plan",
            {
                "name": name.title(),
                "code": name,
                "interval": "monthly",
                "amount": amount,
                "amount_currency": "USD",
            },
        )
    form = {"plan_code": "dear", "external_id": "acme-1", "billing_time": "calendar"}
    plan = "select p.code from subscription s join plan p on p.id = s.plan_id where s.external_id = 'acme-1' and s.status = 'active' and s.organization_id = %s"
    asked = browser.post("/subscribe/acme", form)
    assert "takes over at once" in text_of(asked.text)
    assert browser.row(plan, browser.organization.id) == ("openai-gpt-4",)
    browser.sent("/subscribe/acme", sent_by(asked.text))
    assert browser.row(plan, browser.organization.id) == ("dear",)
    assert "runs on this plan already" in text_of(browser.refused("/subscribe/acme", form))
    asked = browser.post("/subscribe/acme", {**form, "plan_code": "cheap"})
    assert "takes over when the running period ends, on 1 Nov" in text_of(asked.text)
    browser.sent("/subscribe/acme", sent_by(asked.text))
    assert browser.row(plan, browser.organization.id) == ("dear",)
    browser.sent("/subscribe/acme", {**form, "external_id": "acme-2"})


def test_a_customers_email_is_an_address_or_several(browser):
    customer = {"external_id": "acme", "name": "Acme"}
    for wrong in ("ap", "ap@example.com,", "ap@example.com, pay at example.com"):
        page = browser.refused("/new-customer", {**customer, "email": wrong})
        assert "Give an address like ap@example.com, or several with commas between them." in text_of(page)
    browser.sent("/new-customer", {**customer, "email": "ap@example.com, pay@acme.test"})


def test_a_refusal_is_said_on_the_page_that_asked(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    (invoice_id,) = browser.row("select id from invoice where organization_id = %s", browser.organization.id)
    page = browser.refused(f"/invoices/{invoice_id}/void", {"choice": "note", "credit": "500", "refund": "0"})
    assert "It is more than what is left of the invoice" in text_of(page)
    assert 'value="500"' in page
    page = browser.refused(f"/send-by-mail/invoice/{invoice_id}", {"to": "nobody"})
    assert "Give addresses, like ada@example.com." in text_of(page)
    assert 'value="nobody"' in page
