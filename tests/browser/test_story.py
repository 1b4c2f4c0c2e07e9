"""The seed's whole story, clicked: from the first user's link to the invoice's PDF."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from tests.live import LiveServer

from .browsing import choose, first_link, organization, picture

PRICES = {"8K, input": "0.03", "8K, output": "0.06", "32K, input": "0.06", "32K, output": "0.12"}


pytestmark = pytest.mark.xdist_group("browser")


def test_from_the_first_user_to_the_invoice(page: Page, live: LiveServer) -> None:
    made = organization(live, "Story AI")
    become_the_first_user(page, live)
    choose(page, "Story AI")
    make_the_metric(page)
    make_the_plan(page)
    subscribe_a_customer(page)
    send_events(live, made["api_key"])
    look_at_the_usage(page)
    look_at_the_events(page)
    close_the_month(page)
    look_at_the_invoice(page)


def become_the_first_user(page: Page, live: LiveServer) -> None:
    page.goto(live.url)
    expect(page).to_have_url(f"{live.url}/app/sign-in")
    page.goto(first_link(live))
    page.get_by_label("Email").fill("founder@example.com")
    page.get_by_label("Password").fill("short")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/app")
    picture(page, "home-empty")


def make_the_metric(page: Page) -> None:
    page.get_by_role("link", name="Say what is counted").click()
    page.get_by_label("Name").fill("GPT-4 tokens")
    page.get_by_label("Code").fill("gpt_4_tokens")
    page.get_by_label("Property", exact=True).first.fill("tokens")
    for number, (key, values) in enumerate([("model", "8K, 32K"), ("type", "input, output")]):
        page.locator("input[name=key]").nth(number).fill(key)
        page.locator("input[name=values]").nth(number).fill(values)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("GPT-4 tokens")
    page.get_by_role("button", name="Test it").click()
    expect(page.locator(".verdict")).to_contain_text("It counts: 1,250 GPT-4 tokens.")
    picture(page, "metric")


def make_the_plan(page: Page) -> None:
    page.get_by_role("link", name="Price it in a plan").click()
    page.get_by_label("Name", exact=False).first.fill("Pay as you go")
    page.get_by_label("Code").fill("payg")
    for cell, price in PRICES.items():
        page.get_by_label(cell, exact=True).fill(price)
    page.get_by_label("32K, output", exact=True).fill("twelve cents")
    page.locator("[name=unlisted_values][value=held]").check()
    page.get_by_role("button", name="Save").click()
    wrong = page.get_by_label("32K, output", exact=True)
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_be_focused()
    expect(page.get_by_label("8K, input", exact=True)).to_have_value("0.03")
    wrong.fill("0.12")
    picture(page, "price-grid")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Pay as you go")
    page.get_by_label("Units of 8K, input").fill("1,250,000")
    page.get_by_role("button", name="Calculate").click()
    expect(page.get_by_role("status")).to_contain_text("$37.50")
    picture(page, "plan")


def subscribe_a_customer(page: Page) -> None:
    page.get_by_role("link", name="Customers", exact=True).click()
    page.get_by_role("link", name="New customer").first.click()
    page.get_by_label("External id").fill("acme")
    page.get_by_label("Name", exact=True).fill("Acme Chat, Inc.")
    page.get_by_label("Country").select_option("Germany")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("External id of the subscription").fill("acme-1")
    page.get_by_role("button", name="Subscribe").click()
    expect(page.get_by_role("status")).to_have_text("Subscribed.")


def send_events(live: LiveServer, key: str) -> None:
    events = [
        {
            "transaction_id": f"t{number}",
            "external_subscription_id": "acme-1",
            "code": "gpt_4_tokens",
            "properties": {"model": model, "type": kind, "tokens": tokens},
        }
        for number, (model, kind, tokens) in enumerate(
            [
                ("8K", "input", 1_250_000),
                ("8K", "output", 999),
                ("32K", "input", 10_000),
                ("32K", "output", 1),
            ]
        )
    ]
    with live.client(key) as client:
        assert client.post("/events/batch", json={"events": events}).status_code == 200


def look_at_the_usage(page: Page) -> None:
    page.get_by_role("link", name="Usage", exact=True).click()
    table = page.get_by_role("table", name="Usage of GPT-4 tokens")
    expect(table.get_by_role("row", name="8K input 1,250,000 1 $0.03 per 1,000 $37.50")).to_be_visible()
    expect(table.get_by_role("row", name="32K output 1 1 $0.12 per 1,000 $0.12")).to_be_visible()
    expect(page.get_by_text("$38.28").first).to_be_visible()
    picture(page, "usage")


def look_at_the_events(page: Page) -> None:
    page.get_by_role("link", name="Events", exact=True).click()
    expect(page.get_by_text("counts", exact=True)).to_have_count(4)
    page.get_by_label("Live").check()
    time.sleep(2.5)  # it renews itself
    expect(page.get_by_text("counts", exact=True)).to_have_count(4)
    picture(page, "events")


def close_the_month(page: Page) -> None:
    page.get_by_role("link", name="move the test clock").click()
    page.get_by_role("button", name="To the next bill").click()
    expect(page.get_by_role("status")).to_contain_text("makes 1 invoice, $")
    picture(page, "clock")
    page.get_by_role("button", name="Move the clock").click()
    expect(page.get_by_role("status")).to_contain_text("The clock has moved")


def look_at_the_invoice(page: Page) -> None:
    page.get_by_role("link", name="Invoices", exact=True).click()
    row = page.get_by_role("row").filter(has_text="Acme Chat, Inc.")
    expect(row).to_contain_text("$38.28")
    row.get_by_role("link").first.click()
    expect(page.get_by_role("row", name="8K, input 1,250,000 1 $0.03 per 1,000 $37.50")).to_be_visible()
    picture(page, "invoice")
    page.get_by_role("link", name="$37.50").click()
    expect(
        page.get_by_text("1,250,000 units, in packages of 1,000 begun: 1,250 x 0.03 = 37.5")
    ).to_be_visible()
    picture(page, "fee")
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes().startswith(b"%PDF-")
