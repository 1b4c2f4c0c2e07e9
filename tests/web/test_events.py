"""The live tail of events: what each counts as, and why not."""

from __future__ import annotations

from datetime import timedelta

from .conftest import START, text_of


def test_nothing_yet(browser):
    assert "curl" in browser.ok("/events")


def test_each_event_says_what_it_counts_as(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10)
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens="many")
    send("gpt_4_tokens", "acme-1", START - timedelta(days=40), model="8K", type="output", tokens=10)
    send("gpt_4_tokens", "nobody", model="8K", type="output", tokens=10)
    send("other", "acme-1", note="hello")
    words = text_of(browser.ok("/events"))
    assert "counts 10 of GPT-4 tokens" in words
    assert "GPT-4, pay as you go : GPT-4 8K context, output tokens" in words
    assert "is not a number, so it counts as nothing" in words.replace("&#34;", '"')
    assert "No subscription with this id ran at its time." in words
    assert "There is no subscription with this id." in words
    assert "No metric has the code “other”" in words
    assert "note: hello" in words


def test_filters(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10)
    send("other", "acme-1")
    words = text_of(browser.ok("/events", code="other"))
    assert "other" in words
    assert "counts 10 of" not in words
    assert "No event fits" in text_of(browser.ok("/events", timestamp_from="2027-01-01"))
    assert "Give a date" in text_of(browser.ok("/events", timestamp_from="soon"))


def test_many_are_paged(browser, send):
    for number in range(30):
        send("tokens", "s", START - timedelta(seconds=number))
    assert "Page 1 of 2" in text_of(browser.ok("/events"))
    assert browser.ok("/events", page="2").count('<th scope="row">') == 5
