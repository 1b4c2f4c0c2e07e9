"""The live tail of events: what each counts as, and why not."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from permille.billing.amendments import Asked, amend
from permille.core.amendment import AmendmentKind

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


def test_an_amended_event_says_so(browser, gpt4, send, dsn):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10)
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=20)
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "select organization_id, transaction_id from event e join series s on s.id = e.series_id"
            " where organization_id = %s order by seq",
            [browser.organization.id],
        ).fetchall()
        changes = {"properties": {"model": "8K", "type": "output", "tokens": 7}}
        for (organization, name), kind, says in zip(
            rows, (AmendmentKind.VOID, AmendmentKind.REPLACE), ({}, changes), strict=True
        ):
            one = Asked(
                transaction_id=f"fix-{name}",
                event_transaction_id=name,
                external_subscription_id="acme-1",
                kind=kind,
                reason="A retry of the gateway",
                changes=says,
            )
            amend(conn, organization, [one], api_key_id=None, now=START)
    words = text_of(browser.ok("/events"))
    assert "voided It counts as nothing. A retry of the gateway" in words
    assert "replaced A retry of the gateway" in words
    assert "counts 7 of GPT-4 tokens" in words
    assert "tokens: 20" in words
    assert "counts 10 of" not in words
    assert browser.ok("/events").count('<th scope="row">') == 2
