"""Every page: accessible in light and dark, usable on a phone, by keyboard, quiet on the console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.live import ADMIN_KEY, LiveServer

from .conftest import organization, picture, sign_in, watched

PHONE = {"width": 390, "height": 844}
PAGES = {
    "home": "/app",
    "customers": "/app/customers",
    "customer-new": "/app/new-customer",
    "usage": "/app/customers/acme",
    "subscriptions": "/app/customers/acme?tab=subscriptions",
    "details": "/app/customers/acme?tab=details",
    "metrics": "/app/billable-metrics",
    "metric": "/app/billable-metrics/gpt_4_tokens",
    "metric-new": "/app/new-billable-metric",
    "metric-edit": "/app/edit-billable-metric/gpt_4_tokens",
    "plans": "/app/plans",
    "plan": "/app/plans/openai-gpt-4",
    "plan-new": "/app/new-plan",
    "plan-edit": "/app/edit-plan/openai-gpt-4",
    "charge-new": "/app/add-charge/openai-gpt-4",
    "gallery": "/app/templates",
    "invoices": "/app/invoices",
    "events": "/app/events",
    "developers": "/app/developers",
    "audit-log": "/app/audit-log",
    "users": "/app/users",
}


@pytest.fixture(scope="session")
def filled(live: LiveServer) -> dict[str, Any]:
    """An organization with a month that is billed, and one that runs."""
    made = organization(live, "Pages AI")
    with live.client(made["api_key"]) as client:
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        path = f"{live.url}/admin/v1/organizations/{made['lago_id']}/price_lists"
        client.post(path, json={"price_list": {"slug": "openai-gpt-4"}}, headers=admin)
        customer = {"external_id": "acme", "name": "Acme Chat, Inc.", "currency": "USD"}
        client.post("/customers", json={"customer": customer})
        subscription = {
            "external_customer_id": "acme",
            "plan_code": "openai-gpt-4",
            "external_id": "acme-1",
        }
        client.post("/subscriptions", json={"subscription": subscription})
        for month in (10, 11):
            events = [
                {
                    "transaction_id": f"t{month}-{number}",
                    "external_subscription_id": "acme-1",
                    "code": "gpt_4_tokens",
                    "timestamp": f"{1_790_856_000 + number * 40_000 + (month - 10) * 2_678_400}",
                    "properties": {
                        "model": ("8K", "32K")[number % 2],
                        "type": "input",
                        "tokens": 1_000 * number,
                    },
                }
                for number in range(40)
            ]
            assert client.post("/events/batch", json={"events": events}).status_code == 200
        moved = client.put("/test_clock", json={"test_clock": {"now": "2026-11-20T00:00:00Z"}})
        assert moved.status_code == 200, moved.text
    return made


def choose(page: Page, name: str) -> None:
    page.get_by_label("Organization").select_option(label=f"{name} (test)")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


@pytest.fixture(params=["light", "dark"])
def reader(
    request: pytest.FixtureRequest, chromium: Browser, live: LiveServer, filled: dict[str, Any]
) -> Iterator[Page]:
    context = chromium.new_context(color_scheme=request.param, base_url=live.url)
    page = context.new_page()
    watch = watched(page, live)
    sign_in(page, live, f"{request.param}@example.com")
    choose(page, "Pages AI")
    yield page
    context.close()
    assert watch.wrong == []


def test_axe_finds_nothing_and_nothing_is_cut_off_on_a_phone(
    reader: Page, request: pytest.FixtureRequest
) -> None:
    scheme = request.node.callspec.params["reader"]
    axe, found = Axe(), {}
    for name, path in PAGES.items():
        reader.set_viewport_size({"width": 1280, "height": 900})
        answer = reader.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        result = axe.run(reader, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        if result.violations_count:
            found[name] = result.generate_report()
        picture(reader, f"{name}-{scheme}")
        reader.set_viewport_size(PHONE)  # type: ignore[arg-type]
        width = reader.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            found[f"{name} on a phone"] = f"{width} pixels wide"
        picture(reader, f"{name}-{scheme}-phone")
    assert found == {}, "\n".join(f"{name}: {what}" for name, what in found.items())


def test_keys_lead_around(page: Page, live: LiveServer, filled: dict[str, Any]) -> None:
    sign_in(page, live, "keys@example.com")
    choose(page, "Pages AI")
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


def test_signing_out_closes_everything(page: Page, live: LiveServer) -> None:
    sign_in(page, live, "leaver@example.com")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/app/sign-in")
    page.goto("/app/customers")
    page.wait_for_url("**/app/sign-in?next=**")


def test_it_works_without_scripts(chromium: Browser, live: LiveServer, filled: dict[str, Any]) -> None:
    context = chromium.new_context(base_url=live.url)
    page = context.new_page()
    sign_in(page, live, "plain@example.com")
    plain = chromium.new_context(
        base_url=live.url, java_script_enabled=False, storage_state=context.storage_state()
    )
    tab = plain.new_page()
    tab.goto("/app/plans")
    tab.get_by_label("Organization").select_option(label="Pages AI (test)")
    tab.get_by_role("button", name="Switch").click()
    tab.goto("/app/new-customer")
    tab.get_by_label("External id").fill("globex")
    tab.get_by_role("button", name="Save").click()
    tab.wait_for_url("**/app/customers/globex**")
    context.close()
    plain.close()
