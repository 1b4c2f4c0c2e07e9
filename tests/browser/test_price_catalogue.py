"""A price file is uploaded in a browser, approved from a past day on, and what was billed too much comes back."""

from __future__ import annotations

import json

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.live import LiveServer, move_clock

from .browsing import PHONE, barriers, choose, organization, picture, sign_in

pytestmark = pytest.mark.xdist_group("browser")

NAME = "Catalogue AI"
METRIC = {"name": "Tokens", "code": "llm_tokens", "aggregation_type": "sum_agg", "field_name": "quantity"}
PLAN = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
USED = {"provider": "acme", "model": "a", "type": "input", "quantity": 1_000_000}


def prices(input_cost: str) -> bytes:
    """A price file of LiteLLM."""
    entry = {"litellm_provider": "acme", "input_cost_per_token": float(input_cost), "off_peak_pricing": {}}
    return json.dumps({"acme/a": entry}).encode()


def sent(client: httpx2.Client, path: str, **body: object) -> dict[str, str]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    (made,) = answer.json().values()
    return dict(made) if isinstance(made, dict) else {}


def fill(live: LiveServer) -> None:
    """A month that is billed at 10 dollars a million."""
    made = organization(live, NAME)
    with live.client(made["api_key"]) as client:
        imported = {"label": "first", "source": "litellm", "prices": json.loads(prices("1e-05"))}
        version = sent(client, "/llm/catalogue_versions", catalogue_version=imported)
        from_ = {"valid_from": "2026-10-01"}
        sent(client, f"/llm/catalogue_versions/{version['lago_id']}/approve", catalogue_version=from_)
        metric = sent(client, "/billable_metrics", billable_metric=METRIC)
        charge = {"billable_metric_id": metric["lago_id"], "code": "llm", "charge_model": "catalogue"}
        sent(client, "/plans", plan={**PLAN, "pay_in_advance": False, "charges": [charge]})
        sent(client, "/customers", customer={"external_id": "acme", "currency": "USD"})
        subscription = {"external_customer_id": "acme", "plan_code": "p", "external_id": "s"}
        sent(client, "/subscriptions", subscription=subscription)
        event = {"transaction_id": "t", "external_subscription_id": "s", "code": "llm_tokens"}
        sent(client, "/events", event={**event, "properties": USED})
        move_clock(client, "2026-11-20T00:00:00Z")


def test_a_price_file_is_uploaded_approved_and_corrects_an_invoice(page: Page, live: LiveServer) -> None:
    fill(live)
    sign_in(page, live, "prices@example.com")
    choose(page, NAME)
    page.goto("/app/plans")
    page.get_by_role("link", name="Price catalogue").click()
    page.get_by_label("Source").select_option("litellm")
    file = {"name": "newer.json", "mimeType": "application/json", "buffer": prices("8e-06")}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("newer")
    expect(page.get_by_text("No price has changed")).to_be_visible()
    expect(page.get_by_role("cell", name="-20 %")).to_be_visible()
    expect(page.get_by_text("off_peak_pricing")).to_be_visible()
    page.get_by_label("From this day on (UTC)").fill("2026-10-01")
    page.get_by_role("button", name="Approve").click()
    credit = page.get_by_role("button", name="Credit $2.00")
    expect(credit).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert barriers(page) == []
        picture(page, f"price-corrections-{scheme}")
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    credit.click()
    expect(page.get_by_text("The credit notes are made.")).to_be_visible()
    expect(page.get_by_role("cell", name="Nothing")).to_be_visible()
    expect(credit).not_to_be_visible()
