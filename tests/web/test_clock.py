"""The test clock of the web admin: what a move would do is shown first, and nothing happens until it is confirmed."""

from __future__ import annotations

import html
import re

import pytest

from .conftest import START, text_of


@pytest.fixture(autouse=True)
def _used(gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="input", tokens=1_250_000)


def test_the_header_has_a_chip_and_no_button_that_moves_the_clock(browser):
    page = browser.ok("/customers")
    assert "1 Oct 2026, 12:00 UTC" in text_of(page)
    assert 'href="/app/test-clock?back=' in page
    assert 'action="/app/test-clock"' not in page


def test_a_move_is_shown_before_it_happens_and_does_what_it_showed(browser):
    page = browser.ok("/test-clock", to="period", back="/app/customers")
    assert "makes 1 invoice, $37.50" in text_of(page)
    assert browser.row(
        "select count(*) from invoice where organization_id = %s", browser.organization.id
    ) == (0,)
    assert browser.row("select test_now from organization where id = %s", browser.organization.id) == (START,)
    form = {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    }
    assert browser.sent("/test-clock", form) == "/app/customers?said=moved"
    assert browser.row(
        "select count(*), sum(total_amount_cents) from invoice where organization_id = %s",
        browser.organization.id,
    ) == (1, 3750)


def test_a_move_that_bills_nothing_says_so(browser):
    assert "makes no invoice" in text_of(browser.ok("/test-clock", to="day"))


def test_more_than_a_year_is_not_looked_at_first(browser):
    words = text_of(browser.ok("/test-clock", to="given", now="2028-01-01"))
    assert "takes long" in words
    assert "Move the clock" in words


@pytest.mark.parametrize("now", ["soon", "", "2026-09-30", "9999-01-01"])
def test_an_instant_that_cannot_be_is_said_beside_the_field(browser, now):
    page = browser.ok("/test-clock", to="given", now=now)
    assert 'aria-invalid="true"' in page
    assert 'name="now" value="2' not in page.split("Where to?")[0]


@pytest.mark.parametrize("path", ["/customers", "/plans", "/billable-metrics", "/audit-log", "/users"])
def test_a_page_beyond_the_last_one_leads_to_it(browser, path):
    answer = browser.client.get(f"/app{path}?page=999&q=")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"/app{path}?")
    assert "page=1" in answer.headers["location"]
    for junk in ("0", "-1", "x", "1"):
        browser.ok(path, page=junk)
