"""The live tail of events: what each counts as, and why not."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from permille.api import charges as api_charges, plans as api_plans
from permille.core.instants import microseconds
from permille.core.metering.amendment import AmendmentKind
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import customers
from permille.usecases.amendments import AmendmentRequest, amend
from permille.usecases.unpriced import look_some

from .conftest import START, join, text_of


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


def test_an_event_without_a_price_says_so_everywhere(browser, api, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="128K", type="output", tokens=10)
    words = text_of(browser.ok("/events"))
    assert "counts, but has no price 10 of GPT-4 tokens" in words
    assert "everything else, which has no price: decide" in words
    event = '{"event": {"code": "gpt_4_tokens", "transaction_id": "t", "properties": {"model": "128K", "type": "output", "tokens": 1}}}'
    words = text_of(browser.ok("/billable-metrics/gpt_4_tokens", event=event))
    assert "It counts, but has no price: 1 GPT-4 tokens." in words
    assert "Nobody has decided what it costs: decide" in words
    assert "10 of these units have no price." in text_of(browser.ok("/customers/acme"))
    (plan,) = api(api_plans.list_plans)["plans"]
    code = plan["charges"][0]["code"]
    api(
        api_charges.update_charge,
        {"charge": {"unlisted_values": "default"}},
        code=plan["code"],
        charge_code=code,
    )
    assert "counts 10 of GPT-4 tokens" in text_of(browser.ok("/events"))
    assert "have no price" not in text_of(browser.ok("/customers/acme"))


def test_each_event_is_explained_by_the_prices_of_its_own_period_however_many_they_are(
    browser, api, gpt4, send, monkeypatch
):
    (plan,) = api(api_plans.list_plans)["plans"]
    price = {
        "billable_metric_id": plan["charges"][0]["lago_billable_metric_id"],
        "charge_model": "standard",
        "properties": {"amount": "2"},
        "code": "new",
    }
    own = plan["charges"][0]["code"]
    api(api_charges.delete_charge, {"effective": "next_period"}, code=plan["code"], charge_code=own)
    looked_up: list[Any] = []
    by_ids = customers.by_ids

    def counted(conn: Any, ids: Any) -> Any:
        looked_up.append(ids)
        return by_ids(conn, ids)

    monkeypatch.setattr(customers, "by_ids", counted)

    def said(*days: int) -> str:
        for day in days:
            at = START + timedelta(days=day)
            send("gpt_4_tokens", "acme-1", at, model="8K", type="output", tokens=10)
        looked_up.clear()
        return text_of(browser.ok("/events"))

    unpriced = "price this metric."
    words = said(0, 1, 2)
    assert (words.count("counts 10 of GPT-4 tokens"), unpriced in words) == (3, False)
    assert len(looked_up) <= 2, "once for their prices and once for those without one, however many they are"
    assert said(40, 41).count(unpriced) == 2
    api(api_charges.create_charge, {"charge": price, "effective": "next_period"}, code=plan["code"])
    words = said()
    assert (words.count("counts 10 of GPT-4 tokens"), unpriced in words) == (5, False)


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
            one = AmendmentRequest(
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


AMENDED = {"code": "gpt_4_tokens", "timestamp": "2026-10-01 12:00:00", "reason": "Counted twice"}


@pytest.fixture
def one(browser, gpt4, send):
    """The address of an event of 1,000 output tokens."""
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=1000)
    return re.findall(r'href="/app(/events/tx-[^"]*)"', browser.ok("/events"))[0]


def test_an_event_is_voided_with_a_reason_and_comes_back_replaced(browser, one):
    assert one.endswith("?subscription=acme-1")
    assert "1,000 of GPT-4 tokens" in text_of(browser.ok(one))
    assert "Fill this in." in browser.refused(one, {"kind": "void", "reason": ""})
    assert browser.sent(one, {"kind": "void", "reason": "A retry"}) == f"/app{one}&said=amended"
    words = text_of(browser.ok(one))
    assert "voided It counts as nothing. A retry" in words
    assert "$0.00" in text_of(browser.ok("/customers/acme"))
    properties = '{"model": "32K", "type": "output", "tokens": 2500.5}'
    browser.sent(one, {**AMENDED, "kind": "replace", "properties": properties})
    page = browser.ok(one)
    assert "counts 2,500.5 of GPT-4 tokens" in text_of(page)
    assert "&#34;tokens&#34;: 2500.5" in page
    assert text_of(page).count("Counted twice") == 2
    assert "$0.36" in text_of(browser.ok("/customers/acme"))
    assert "replaced event" in text_of(browser.ok("/audit-log"))


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("properties", "tokens: 3", "Give a JSON object"),
        ("properties", "[1]", "Give a JSON object"),
        ("properties", "[" * 100_000, "Give a JSON object"),
        ("properties", "1e99999999999999999999", "Give a JSON object"),
        ("properties", '{"tokens": 1e99999999999999999999}', "Give a JSON object"),
        ("properties", '{"tokens": "\\ud800"}', "Give a JSON object"),
        ("timestamp", "soon", "Give a time in UTC"),
        ("precise_total_amount_cents", "dear", "Give a number, like 1234.50."),
        ("code", "", "Fill this in."),
        ("reason", "", "Fill this in."),
    ],
)
def test_an_amendment_that_cannot_be_is_reported_at_its_field(browser, one, field, text, words):
    form = {**AMENDED, "kind": "replace", "properties": '{"tokens": 77}', field: text}
    page = browser.refused(one, form)
    assert re.search(rf'id="{field}-error">{words}', page)
    if field != "reason":
        assert "Counted twice" in page
    if field != "properties":
        assert "77" in page


def test_a_time_is_changed_and_what_is_billed_already_is_reported(browser, one):
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    moved = {
        **AMENDED,
        "kind": "replace",
        "timestamp": "2026-11-01 00:00:00.250",
        "properties": '{"tokens": 1}',
    }
    browser.sent(one, moved)
    words = text_of(browser.ok(one))
    assert "1 Nov 2026, 00:00 gpt_4_tokens tokens: 1" in words
    assert "$0.06 $0.00 $0.06" in words
    assert 'value="2026-11-01 00:00:00.250"' in browser.ok(one)


def test_events_of_several_subscriptions_with_one_id_are_distinguished(browser, gpt4, api, server):
    conn = open_connection(server.dsn)
    for name in ("acme-1", "a/2"):
        draft = Draft("same", "gpt_4_tokens", name, microseconds(START), None, {"tokens": len(name)})
        store(conn, Memory(), [Request(browser.organization.id, [draft], microseconds(START))])
    conn.close()
    assert "tokens: 3" in text_of(browser.ok("/events/same", subscription="a/2"))
    assert "tokens: 6" in text_of(browser.ok("/events/same", subscription="acme-1"))
    assert browser.client.get("/app/events/same?subscription=none").status_code == 404
    browser.sent("/events/same?subscription=a%2F2", {"kind": "void", "reason": "x"})
    assert "voided" not in text_of(browser.ok("/events/same", subscription="acme-1"))


def test_who_only_reads_amends_nothing(server, browser, one):
    reader = join(server, role="read_only")
    assert reader.post(one, {"kind": "void", "reason": "x"}).status_code == 403
    assert reader.client.get(f"/app{one}").status_code == 404, "of another organization"


def test_home_says_what_has_no_price_and_since_when(browser, api, gpt4, send, dsn):
    assert "Usage without a price" not in browser.ok("")
    send("gpt_4_tokens", "acme-1", model="128K", type="output", tokens=1_500)
    send("gpt_4_tokens", "acme-1", model="8K", tokens=7)
    with psycopg.connect(dsn, autocommit=True) as conn:
        while rollup.roll_up(conn):
            pass
        while look_some(conn, browser.organization.id, now=START):
            pass
    words = text_of(browser.ok(""))
    assert "Usage without a price" in words
    assert (
        "model: 128K , type: output gpt_4_tokens on openai-gpt-4 1,500 1 Oct 2026, 12:00 billed at 0" in words
    )
    assert "model: 8K , type: missing" in words
    charge = {"charge": {"unlisted_values": "held"}}
    api(api_charges.update_charge, charge, code="openai-gpt-4", charge_code="gpt_4_tokens")
    assert "held: the invoice waits" in text_of(browser.ok(""))
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    words = text_of(browser.ok(""))
    assert "1 draft waits for a price" in words
    (number,) = browser.row("select id from invoice where organization_id = %s", browser.organization.id)
    page = text_of(browser.ok(f"/invoices/{number}"))
    assert "It stays a draft until all of its usage has a price." in page
    assert "1,507 no price" in page
