"""Every page: accessible in light and dark, usable on a phone, by keyboard, quiet on the console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live import LiveServer

from .browsing import DESKTOP, PHONE, Watch, barriers, choose, open_tab, organization, picture, sign_in
from .filled import NAME, Filled

pytestmark = pytest.mark.xdist_group("browser")

PAGES = {
    "home": "/app",
    "customers": "/app/customers",
    "customer-new": "/app/new-customer",
    "customer-edit": "/app/edit-customer/acme",
    "usage": "/app/customers/acme",
    "subscriptions": "/app/customers/acme?tab=subscriptions",
    "customer-invoices": "/app/customers/acme?tab=invoices",
    "details": "/app/customers/acme?tab=details",
    "wallets": "/app/customers/acme?tab=wallets",
    "wallet-new": "/app/new-wallet/acme",
    "wallet": "/app/wallets/{wallet}",
    "wallet-edit": "/app/edit-wallet/{wallet}",
    "wallet-transaction": "/app/wallet-transactions/{transaction}",
    "metrics": "/app/billable-metrics",
    "metric": "/app/billable-metrics/gpt_4_tokens",
    "metric-new": "/app/new-billable-metric",
    "metric-edit": "/app/edit-billable-metric/gpt_4_tokens",
    "plans": "/app/plans",
    "plan": "/app/plans/openai-gpt-4",
    "plan-new": "/app/new-plan",
    "plan-edit": "/app/edit-plan/openai-gpt-4",
    "charge-new": "/app/add-charge/openai-gpt-4",
    "charge-tiers": "/app/add-charge/openai-gpt-4?charge_model=graduated&units=12&others:to=10&others:price=2&others:flat=1"
    "&others:to=&others:price=1&others:flat=",
    "charge-percentage": "/app/add-charge/openai-gpt-4?charge_model=percentage&others:rate=much",
    "charge-edit": "/app/edit-charge/openai-gpt-4?charge=gpt_4_tokens",
    "charge-filter": "/app/add-charge/openai-gpt-4?metric=gpt_4_tokens&billable_metric_code=gpt_4_tokens"
    "&charge_model=package&price:0:0=0.5&add=filter&added:model=*",
    "charge-filter-wrong": "/app/add-charge/openai-gpt-4?metric=gpt_4_tokens&billable_metric_code=gpt_4_tokens"
    "&add=filter&added:model=none",
    "own-plan": "/app/own-plan/acme-1",
    "own-plan-edit": "/app/edit-own-plan/acme-1",
    "own-charge-edit": "/app/edit-own-charge/acme-1?charge=gpt_4_tokens",
    "fixed-charge-new": "/app/add-fixed-charge/openai-gpt-4",
    "coupons": "/app/coupons",
    "coupon-new": "/app/new-coupon",
    "add-ons": "/app/add-ons",
    "add-on-new": "/app/new-add-on",
    "pricing-units": "/app/pricing-units",
    "pricing-unit-new": "/app/new-pricing-unit",
    "gallery": "/app/templates",
    "current-prices": "/app/templates/anthropic",
    "price-catalogue": "/app/catalogue-versions",
    "price-catalogue-version": "/app/catalogue-versions/{catalogue_version}",
    "invoices": "/app/invoices",
    "invoice": "/app/invoices/{invoice}",
    "fee": "/app/fees/{fee}",
    "events": "/app/events",
    "event": "/app/events/t1?subscription=acme-1",
    "customer-fees": "/app/customers/acme?tab=fees",
    "margin": "/app/margin?from=2026-10-01&to=2026-11-20",
    "margin-days": "/app/margin?from=2026-10-01&to=2026-11-20&group_by=day",
    "connect": "/app/connect",
    "connect-guide": "/app/connect/openai",
    "llm-usage": "/app/llm-usage",
    "model-aliases": "/app/model-aliases",
    "held-usages": "/app/held-usages",
    "payer-rules": "/app/payer-rules?field=team&value=t1",
    "payer-rule-edit": "/app/edit-payer-rule/{rule}",
    "alerts": "/app/alerts/acme-1",
    "features": "/app/features",
    "entitlements": "/app/entitlements/openai-gpt-4",
    "dunning": "/app/dunning",
    "dunning-new": "/app/new-dunning-campaign",
    "payments": "/app/payments",
    "mail": "/app/mail",
    "mail-server": "/app/mail-server",
    "developers": "/app/developers",
    "settings": "/app/settings",
    "api-requests": "/app/api-requests",
    "audit-log": "/app/audit-log",
    "users": "/app/users",
    "organization-new": "/app/new-organization",
    "clock": "/app/test-clock?to=day&back=/app",
}
OUTSIDE = {
    "sign-in": (200, "/app/sign-in"),
    "link-over": (410, "/app/link/no-such-link"),
    "api": (200, "/docs/api"),
    "api-fees": (200, "/docs/api/fees"),
}


@pytest.fixture(scope="module")
def reader(chromium: Browser, live: LiveServer, filled: Filled) -> Iterator[tuple[Page, Watch]]:
    """Somebody who is signed in, and looks at one page after another."""
    context, page, watch = open_tab(chromium, live)
    sign_in(page, live, "reader@example.com")
    choose(page, NAME)
    yield page, watch
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_for_everybody(reader: tuple[Page, Watch], filled: Filled, name: str) -> None:
    page, watch = reader
    ids = {
        "invoice": filled.invoice_id,
        "fee": filled.fee_id,
        "wallet": filled.wallet_id,
        "transaction": filled.transaction_id,
        "catalogue_version": filled.catalogue_version_id,
        "rule": filled.rule_id,
    }
    look_at(page, name, PAGES[name].format(**ids))
    assert watch.wrong == []


def test_a_desktop_shows_the_whole_navigation(reader: tuple[Page, Watch]) -> None:
    page, _ = reader
    page.set_viewport_size(DESKTOP)
    page.goto("/app/settings")
    links = page.get_by_role("navigation", name="Main")
    assert links.evaluate("e => e.firstElementChild.scrollWidth - e.firstElementChild.clientWidth") == 0
    assert links.evaluate("e => e.getBoundingClientRect().height") < 60, "in one line"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_page_outside_is_for_everybody(page: Page, name: str) -> None:
    status, path = OUTSIDE[name]
    look_at(page, name, path, status)


def look_at(page: Page, name: str, path: str, status: int = 200) -> None:
    """Light at a desk, dark on a phone: contrast depends on the one, what fits on the other."""
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESKTOP)
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == status
    assert barriers(page) == []
    picture(page, f"{name}-light")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    assert barriers(page) == []
    picture(page, f"{name}-dark-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_names_without_a_space_hide_nothing_on_a_phone(page: Page, live: LiveServer) -> None:
    code = "x_" * 60
    name = "unbroken" * 20
    with live.client(organization(live, name)["api_key"]) as client:

        def post(path: str, **body: dict[str, Any]) -> Any:
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        money = {"amount_cents": 10**13, "amount_currency": "EUR"}
        post("/taxes", tax={"code": code, "name": name, "rate": "21.5", "applied_to_organization": True})
        metric = {"code": code, "name": name, "aggregation_type": "count_agg"}
        post("/billable_metrics", billable_metric=metric)
        post(
            "/plans",
            plan={"code": code, "name": name, "interval": "monthly", "pay_in_advance": False, **money},
        )
        post("/add_ons", add_on={"code": code, "name": name, "description": name, **money})
        post("/customers", customer={"external_id": code, "name": name, "currency": "EUR"})
        sold = {"external_customer_id": code, "currency": "EUR", "fees": [{"add_on_code": code}]}
        invoice_id = post("/invoices", invoice=sold)["invoice"]["lago_id"]
    sign_in(page, live, "long@example.com")
    choose(page, name)
    page.set_viewport_size(PHONE)
    for path in (
        *(
            "",
            f"/customers/{code}",
            f"/edit-customer/{code}",
            f"/plans/{code}",
            f"/add-charge/{code}",
            "/users",
        ),
        *(f"/edit-add-on/{code}", f"/billable-metrics/{code}", "/developers", f"/invoices/{invoice_id}"),
    ):
        page.goto(f"/app{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    total = page.locator("dl.totals dd").last.bounding_box()
    assert total is not None
    assert total["x"] + total["width"] <= PHONE["width"]


def test_a_double_click_pays_once_and_the_back_button_lets_pay_again(page: Page, live: LiveServer) -> None:
    with live.client(organization(live, "Twice")["api_key"]) as client:
        money = {"amount_cents": 10_000, "amount_currency": "EUR"}
        client.post("/add_ons", json={"add_on": {"code": "sold", "name": "Sold", **money}})
        client.post("/customers", json={"customer": {"external_id": "payer", "currency": "EUR"}})
        sold = {"external_customer_id": "payer", "currency": "EUR", "fees": [{"add_on_code": "sold"}]}
        invoice_id = client.post("/invoices", json={"invoice": sold}).json()["invoice"]["lago_id"]
    sign_in(page, live, "twice@example.com")
    choose(page, "Twice")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.goto(f"/app/record-payment/{invoice_id}")
    for due in ("€90.00", "€80.00"):
        page.get_by_label("Amount").fill("10")
        page.get_by_label("Reference").fill(f"bank, {due}")
        button = page.locator("main form button").bounding_box()
        assert button is not None
        for _ in range(2):
            page.mouse.click(button["x"] + 5, button["y"] + 5)
        page.wait_for_url(f"**/app/invoices/{invoice_id}?said=saved")
        page.goto(f"/app/record-payment/{invoice_id}")
        expect(page.get_by_text(f"{due} of €100.00")).to_be_visible()
        page.go_back()
        page.go_back()
    assert len(sent) == 2


def test_the_effect_of_new_prices_is_for_everybody(page: Page, live: LiveServer, filled: Filled) -> None:
    sign_in(page, live, "keys@example.com")
    choose(page, NAME)
    for path in (PAGES["charge-edit"], PAGES["own-charge-edit"]):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size(PHONE)
            page.goto(path)
            page.get_by_role("button", name="Continue").click()
            expect(page.get_by_text("Nothing is saved yet.")).to_be_visible()
            assert barriers(page) == []
            day = page.get_by_label("Day", exact=True).bounding_box()
            assert day is not None
            assert day["width"] > 100, "a whole date can be read"
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            picture(page, f"price-effect-{scheme}")


def test_keys_lead_around(page: Page, live: LiveServer, filled: Filled) -> None:
    sign_in(page, live, "keys@example.com")
    choose(page, NAME)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/app/customers")
    page.keyboard.press("/")
    expect(page.get_by_label("Search customers")).to_be_focused()
    page.keyboard.type("acme")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Acme Chat, Inc.")).to_be_visible()


def test_an_arrow_key_in_a_menu_changes_nothing_until_its_button(
    page: Page, live: LiveServer, filled: Filled
) -> None:
    organization(live, "Newest")  # the one that is looked at first
    sign_in(page, live, "keys@example.com")
    shown = page.get_by_role("heading", level=1).text_content()
    page.get_by_label("Organization").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    assert page.get_by_role("heading", level=1).text_content() == shown
    page.get_by_role("button", name="Switch").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text(shown or "")


def test_it_works_without_scripts(chromium: Browser, live: LiveServer, filled: Filled) -> None:
    context = chromium.new_context(base_url=live.url)
    page = context.new_page()
    sign_in(page, live, "plain@example.com")
    plain = chromium.new_context(
        base_url=live.url, java_script_enabled=False, storage_state=context.storage_state()
    )
    tab = plain.new_page()
    tab.goto("/app/plans")
    tab.get_by_label("Organization").select_option(label=f"{NAME} (test)")
    tab.get_by_role("button", name="Switch").click()
    tab.goto("/app/new-customer")
    tab.get_by_label("External id").fill("globex")
    tab.get_by_role("button", name="Save").click()
    tab.wait_for_url("**/app/customers/globex**")
    context.close()
    plain.close()


def test_tiers_are_typed_calculated_and_saved(page: Page, live: LiveServer, filled: Filled) -> None:
    sign_in(page, live, "tiers@example.com")
    choose(page, NAME)
    page.goto("/app/new-plan")
    page.get_by_label("Name", exact=False).first.fill("Tiered")
    page.get_by_label("Code").fill("tiered")
    page.get_by_label("How units are priced").select_option("graduated")
    page.get_by_role("button", name="Choose").last.click()
    page.wait_for_url("**charge_model=graduated**")
    expect(page.get_by_label("Code")).to_have_value("tiered")
    others = page.get_by_role("group", name="Everything else")
    for row, (to, price) in enumerate([("1000", "0.02"), ("5000", "0.01")]):
        others.locator("[name='others:to']").nth(row).fill(to)
        others.locator("[name='others:price']").nth(row).fill(price)
    others.get_by_role("button", name="Add a tier").click()
    others.locator("[name='others:price']").nth(2).fill("0.005")
    page.get_by_label("What would these units cost?").fill("7000")
    page.get_by_role("button", name="Calculate").click()
    expect(page.get_by_role("status")).to_contain_text("$70.00")
    page.locator("[name=unlisted_values][value=default]").check()
    page.get_by_role("button", name="Save").last.click()
    page.wait_for_url("**/app/plans/tiered**")
    expect(page.locator("td").first).to_contain_text("to 1,000: $0.02 each")
    page.get_by_role("link", name="Edit prices").click()
    expect(page.locator("[name='others:to']").nth(1)).to_have_value("5000")
    picture(page, "tiers")


def test_an_event_is_voided_without_scripts(chromium: Browser, live: LiveServer, filled: Filled) -> None:
    context = chromium.new_context(base_url=live.url)
    page = context.new_page()
    sign_in(page, live, "voider@example.com")
    choose(page, NAME)
    plain = chromium.new_context(
        base_url=live.url, java_script_enabled=False, storage_state=context.storage_state()
    )
    tab = plain.new_page()
    tab.goto("/app/events/t99?subscription=acme-1")
    tab.get_by_label("Why").fill("The gateway sent it twice")
    tab.get_by_role("button", name="Void it").click()
    expect(tab.get_by_role("status")).to_contain_text("Amended.")
    expect(tab.get_by_text("It counts as nothing.")).to_be_visible()
    tab.get_by_label("Why").fill("It was right after all")
    tab.get_by_label("Properties").fill('{"model": "8K", "type": "input", "tokens": 12.5}')
    tab.get_by_role("button", name="Replace it").click()
    expect(tab.get_by_text("12.5 of GPT-4 tokens")).to_be_visible()
    context.close()
    plain.close()


def test_a_price_for_other_values_is_added_and_saved_without_scripts(
    chromium: Browser, live: LiveServer, filled: Filled
) -> None:
    context = chromium.new_context(base_url=live.url)
    page = context.new_page()
    sign_in(page, live, "filters@example.com")
    choose(page, NAME)
    plain = chromium.new_context(
        base_url=live.url, java_script_enabled=False, storage_state=context.storage_state()
    )
    tab = plain.new_page()
    tab.goto("/app/new-plan")
    tab.get_by_label("Name", exact=False).first.fill("Filtered")
    tab.get_by_label("Code").fill("filtered")
    tab.get_by_label("8K, input", exact=True).fill("0.03")
    tab.get_by_text("A price for other values").click()
    tab.get_by_label("model", exact=True).fill("*")
    tab.get_by_role("button", name="Add this price").click()
    added = tab.get_by_role("group", name="any listed model")
    added.get_by_label("Price of a package").fill("0.2")
    expect(tab.get_by_role("group", name="8K, input").get_by_label("Price of a package")).to_have_value(
        "0.03"
    )
    tab.locator("[name=unlisted_values][value=default]").check()
    tab.get_by_role("button", name="Save").last.click()
    tab.wait_for_url("**/app/plans/filtered**")
    expect(tab.get_by_role("row", name="any listed model any $0.20 per 1,000")).to_be_visible()
    context.close()
    plain.close()
