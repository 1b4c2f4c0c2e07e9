"""The margin page: the API's figures, a chart of them in each currency, and the same as CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from permille.api import llm_setup
from permille.web import chart, shown

from .conftest import START, Browser, text_of

MODELS = [{"provider": "openai", "model": "gpt-4o", "prices": {"input": "20", "output": "50"}}]
SETUP = {"plan_code": "llm", "models": MODELS, "unlisted_values": "free"}
MILLION = 1_000_000


@pytest.fixture
def used(browser: Browser, api: Callable[..., Any], send: Callable[..., None]) -> None:
    """A million tokens in for $20 and out for $50, which cost 2.50 and 10; and some of a model without a known cost."""
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme", "currency": "USD"})
    browser.sent("/new-customer", {"external_id": "euro", "name": "Euro", "currency": "EUR"})
    api(llm_setup.set_up_models, {"setup": {**SETUP, "currency": "USD"}})
    api(llm_setup.set_up_models, {"setup": {**SETUP, "plan_code": "llm-eur", "currency": "EUR"}})
    browser.sent("/subscribe/acme", {"plan_code": "llm", "external_id": "sub", "billing_time": "calendar"})
    browser.sent("/subscribe/euro", {"plan_code": "llm-eur", "external_id": "eur"})
    said = {"provider": "openai", "modality": "text", "tier": "standard", "context": "0"}
    for sub, model, kind, tokens in (
        ("sub", "gpt-4o", "input", MILLION),
        ("sub", "gpt-4o", "output", MILLION),
        ("sub", "own<b>", "output", 1_050),
        ("eur", "gpt-4o", "output", MILLION),
    ):
        at = START + timedelta(seconds=1)
        send("llm_tokens", sub, at, **said, model=model, type=kind, quantity=str(tokens))
    browser.sent("/test-clock", {"to": "day"})


def facts(page: str, currency: str) -> dict[str, str]:
    section = page.split(f'id="in-{currency}"')[1].split("</dl>", maxsplit=1)[0]
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section, flags=re.DOTALL)
    return {text_of(name): text_of(value) for name, value in pairs}


def test_figures_by_currency_and_model(browser: Browser, used: None) -> None:
    page = browser.ok("/margin")
    assert facts(page, "USD") == {
        "Revenue": "$70.00",
        "Of it not on a final invoice yet": "$70.00",
        "Cost": "$12.50",
        "Margin": "$57.50",
        "Margin of the revenue": "82.14 %",
        "Usage without a known cost": "1,050 llm_tokens in 1 event",
    }
    euro = facts(page, "EUR")
    assert (euro["Revenue"], euro["Cost"], euro["Margin"]) == ("€50.00", "$10.00", "–")
    assert "say above what one is in EUR" in page
    words = text_of(page)
    assert "gpt-4o $70.00 $12.50 $57.50 82.14 % –" in words
    assert "own&lt;b&gt; $0.00 $0.00 $0.00 – 1,050 llm_tokens in 1 event" in words
    assert "own<b>" not in page
    assert page.count('role="img"') == 2
    assert "<title>gpt-4o, Cost: 12.5</title>" in page
    assert "<style" not in page


def test_a_rate_that_is_typed_makes_a_margin_in_the_currency(browser: Browser, used: None) -> None:
    query = {"usd_exchange_rates[EUR]": "1,875"}
    assert browser.client.get("/app/margin", params=query).status_code == 422, "1.875 or 1875"
    query = {"usd_exchange_rates[EUR]": "0,9", "group_by": "customer,type"}
    page = browser.ok("/margin", **query)
    euro = facts(page, "EUR")
    assert (euro["Cost"], euro["Margin"], euro["Margin of the revenue"]) == ("€9.00", "€41.00", "82 %")
    assert "euro output €50.00 €9.00 €41.00 82 %" in text_of(page)
    (link,) = re.findall(r'href="(/app/margin.csv[^"]*)"', page)
    answer = browser.client.get(link.replace("&amp;", "&"))
    assert answer.headers["content-disposition"] == 'attachment; filename="margin-2026-10-01-2026-10-03.csv"'
    assert "euro,output,EUR,0,5000,5000,0,10.0,0.9,900.0,4100.0,0.82" in answer.text


def test_days_are_drawn_one_by_one_and_many_of_them_by_month(browser: Browser, used: None) -> None:
    page = browser.ok("/margin", **{"from": "2026-09-28", "to": "2026-10-03", "group_by": "day"})
    assert "<title>1 Oct, Cost: 12.5</title>" in page
    assert "<title>2 Oct, Revenue: 70</title>" in page
    assert "<title>1 Oct, Margin: -12.5</title>" in page
    assert '<th scope="row">28 Sep</th><td class="n">0</td>' in page
    page = browser.ok("/margin", **{"from": "2026-07-01", "to": "2026-10-31", "group_by": "day,model"})
    assert "<title>Oct 2026, Margin: 57.5</title>" in page
    assert '<th scope="row">Jul 2026</th><td class="n">0</td>' in page


def test_pages_of_many_groups_keep_what_was_asked_for(
    browser: Browser, used: None, send: Callable[..., None]
) -> None:
    said = {"provider": "openai", "modality": "text", "tier": "standard", "context": "0", "type": "input"}
    for number in range(30):
        send("llm_tokens", "sub", START, **said, model=f"own-{number:02d}", quantity="10")
    page = browser.ok("/margin", group_by="model,type")
    (link,) = re.findall(r'<a rel="next" href="([^"]*)">Next', page)
    assert "own-29" not in page.split("<tbody>")[-1]
    page = browser.client.get("/app/margin" + link.replace("&amp;", "&")).text
    assert '<th scope="row">own-29</th><td>input</td>' in page


@pytest.mark.parametrize(
    ("cents", "currency", "text"),
    [
        ("1234567.891", "USD", "$12,345.68"),
        ("0.0012345", "USD", "$0.0000123"),
        ("-12.345", "USD", "−$0.123"),
        ("-0.5", "JPY", "−¥0.5"),
        ("50", "EUR", "€0.50"),
        ("0", "USD", "$0.00"),
    ],
)
def test_small_amounts_keep_digits_that_say_something(cents: str, currency: str, text: str) -> None:
    assert shown.precise_money(Decimal(cents), currency) == text


def test_a_reader_sees_it_and_wrong_days_are_refused(reader: Browser) -> None:
    assert "No revenue and no usage of language models in these days." in reader.ok("/margin")
    assert 'href="/app/margin"' in reader.ok("")
    wrong = reader.client.get("/app/margin", params={"from": "2026-10-02", "to": "2026-10-01"})
    assert wrong.status_code == 422
    assert reader.client.get("/app/margin", params={"group_by": "moon"}).status_code == 422


def test_bars_below_zero_go_down_from_it() -> None:
    days = [("a", {"Revenue": Decimal(40), "Margin": Decimal(-10)}), ("b", {})]
    for drawn in (
        chart.side_by_side(days, ("Revenue", "Margin")),
        chart.in_rows(days, ("Revenue", "Margin")),
    ):
        assert [each.text for each in drawn.scale] == ["−12.5", "0", "12.5", "25", "37.5", "50"]
        assert [each.title for each in drawn.bars] == ["a, Revenue: 40", "a, Margin: -10"]
        assert drawn.rows == (("a", (40, -10)), ("b", (0, 0)))
    up, down = chart.side_by_side(days, ("Revenue", "Margin")).bars
    assert down.y == up.y + up.height
    right, left = chart.in_rows(days, ("Revenue", "Margin")).bars
    assert left.x + left.width == right.x
    assert chart.in_rows([], ("Revenue",)).total == 0


def test_the_smallest_groups_are_drawn_as_one(
    browser: Browser, used: None, send: Callable[..., None]
) -> None:
    said = {"provider": "openai", "modality": "text", "tier": "standard", "context": "0", "type": "input"}
    for number in range(8):
        send("llm_tokens", "sub", START, **said, model=f"own-{number}", quantity="10")
    page = browser.ok("/margin")
    rows = re.findall(r'<text class="axis row"[^>]*>(.*?)</text>', page)
    assert rows == ["gpt-4o", "gpt-4o", *(f"own-{number}" for number in range(6)), "3 more"]
    assert '<th scope="row">own-7</th>' in page, "the table has all"
