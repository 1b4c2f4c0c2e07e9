"""Late usage in the web admin: home counts it, an event says it, and the page decides about it."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from permille.api import organizations as api_organizations
from tests.late import review_late_usage

from .conftest import START, text_of


@pytest.fixture
def late(browser, api, gpt4, send, dsn):
    """An event of a billed month; the address of its late usage."""
    api(api_organizations.move_test_clock, {"test_clock": {"now": (START + timedelta(days=40)).isoformat()}})
    send("gpt_4_tokens", "acme-1", START + timedelta(days=1), model="8K", type="output", tokens=5_000)
    review_late_usage(dsn)
    (address,) = re.findall(r'action="/app(/late-usage/[^"]+)/bill"', browser.ok("/late-usage"))
    return address


def test_home_and_the_event_say_that_it_is_on_no_invoice(browser, late):
    words = text_of(browser.ok(""))
    assert "Usage that came too late 5,000 of gpt_4_tokens in 1 event, since" in words
    words = text_of(browser.ok("/events"))
    assert "too late 5,000 of GPT-4 tokens" in words
    assert "It is on no invoice: decide what becomes of it" in words


def test_it_is_billed_by_a_button(browser, late):
    browser.sent(f"{late}/bill")
    assert "The next invoice of the subscription bills it." in text_of(browser.ok("/late-usage"))
    assert "The subscription's next invoice bills it." in text_of(browser.ok("/events"))
    assert "came too late" not in text_of(browser.ok(""))
    assert "billed late usage" in text_of(browser.ok("/audit-log"))


def test_it_is_written_off_with_a_reason(browser, late):
    assert "Fill this in." in text_of(browser.refused(f"{late}/accept", {"reason": ""}))
    browser.sent(f"{late}/accept", {"reason": "The gateway was down"})
    assert "written off The gateway was down" in text_of(browser.ok("/late-usage", status="accepted"))
    assert "as it was written off: The gateway was down" in text_of(browser.ok("/events"))
    assert "No late usage here." in text_of(browser.ok("/late-usage", status="open"))


def test_the_tester_says_it_before(browser, late):
    event = {
        "code": "gpt_4_tokens",
        "transaction_id": "t",
        "external_subscription_id": "acme-1",
        "timestamp": int((START + timedelta(days=2)).timestamp()),
        "properties": {"model": "8K", "type": "output", "tokens": 1},
    }
    words = text_of(browser.ok("/billable-metrics/gpt_4_tokens", event=json.dumps({"event": event})))
    assert "Sent now it would be on no invoice:" in words
    event["timestamp"] = int((START + timedelta(days=39)).timestamp())
    words = text_of(browser.ok("/billable-metrics/gpt_4_tokens", event=json.dumps({"event": event})))
    assert "on no invoice" not in words
