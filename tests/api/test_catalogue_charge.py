"""Charges by the price catalogue, over HTTP: the provider's price of the day, the markup, and usage without a price."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.unpriced import look_some, newest

from .conftest import START, Api, charge

_numbers = itertools.count(1)
DAY = {"provider": "openai", "model": "gpt-4.1", "type": "input", "amount": "3"}


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    conn, memory = open_connection(dsn), Memory()

    def one(quantity: int, at: datetime = START, **properties: Any) -> None:
        given = {
            "provider": "openai",
            "model": "gpt-4.1",
            "type": "input",
            "quantity": quantity,
            **properties,
        }
        draft = Draft(f"call-{next(_numbers)}", "llm_tokens", "sub", microseconds(at), None, given)
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])

    yield one
    conn.close()


@pytest.fixture
def metric(api: Api) -> Any:
    api.customer()
    return api.metric(code="llm_tokens", aggregation_type="sum_agg", field_name="quantity")


def subscribed(api: Api, metric: Any, currency: str = "USD", **properties: Any) -> Any:
    own = charge(metric, code="llm", charge_model="catalogue", properties=properties)
    made = api.plan(charges=[own], amount_currency=currency)
    api.subscribe()
    return made["charges"][0]


def usage(api: Api) -> Any:
    path = "/customers/cus/current_usage"
    return api.get(path, external_subscription_id="sub")["customer_usage"]["charges_usage"][0]


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def test_tokens_are_billed_at_the_providers_price_times_the_markup(api: Api, metric: Any, send: Any) -> None:
    made = subscribed(api, metric, markup="1.2")
    assert (made["charge_model"], made["rounding"]) == ("catalogue", "per_charge")
    assert made["properties"]["pricing_group_keys"][:3] == ["provider", "model", "type"]
    send(1_000_000)
    send(500_000, type="output")
    send(10_000, model="gpt-4.1-2025-04-14", type="cached_input")
    found = usage(api)
    # 1 M x 2 + 0.5 M x 8 + 10,000 x 0.5 dollars a million, times 1.2
    assert found["amount_cents"] == 721
    lines = {
        (each["grouped_by"]["model"], each["grouped_by"]["type"]): each["amount_cents"]
        for each in found["grouped_usage"]
    }
    assert lines == {
        ("gpt-4.1", "input"): 240,
        ("gpt-4.1", "output"): 480,
        ("gpt-4.1-2025-04-14", "cached_input"): 1,
    }


def test_a_price_that_changes_within_the_period_splits_it_at_the_date(
    api: Api, metric: Any, send: Any
) -> None:
    day = START.replace(day=START.day + 1, hour=0, minute=0)
    subscribed(api, metric, prices=[DAY, {**DAY, "amount": "5", "from": day.date().isoformat()}])
    send(1_000_000, at=START)
    send(1_000_000, at=day)
    move(api, day.year, day.month, day.day, 5)
    found = usage(api)
    assert found["amount_cents"] == 800
    assert sorted(
        (each["amount_cents"], each["grouped_by"]["price_since"]) for each in found["grouped_usage"]
    ) == [
        (300, None),
        (500, day.date().isoformat()),
    ]


def test_an_invoice_bills_it_and_explains_each_line(api: Api, metric: Any, send: Any) -> None:
    subscribed(api, metric, markup="1.5")
    send(1_000_001)
    move(api, 2024, 4, 2)
    [invoice, *_] = api.get("/invoices")["invoices"]
    [fee] = [
        each
        for each in api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
        if each["lago_charge_id"]
    ]
    assert (fee["amount_cents"], fee["precise_amount"]) == (300, "3.000003")
    explained = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]
    steps = [each["text"] for each in explained["formula"]]
    assert steps[0].startswith("1,000,001 units x 2 / 1,000,000 x 1.5 = 3.000003 (genai-prices-")


def test_the_events_behind_a_line_are_those_of_its_price(api: Api, metric: Any, send: Any) -> None:
    subscribed(api, metric, prices=[DAY, {**DAY, "amount": "5", "from": "2024-03-08"}])
    send(1_000_000, at=START)
    for _ in range(2):
        send(1_000_000, at=datetime(2024, 3, 8, tzinfo=UTC))
    move(api, 2024, 4, 2)
    [invoice, *_] = api.get("/invoices")["invoices"]
    found = {}
    for fee in api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]:
        if fee["lago_charge_id"]:
            explained = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]
            assert explained["recomputed"]["amount_cents"] == fee["amount_cents"]
            found[fee["amount_cents"]] = explained["events"]["count"]
    assert found == {300: 1, 1000: 2}


def test_usage_without_a_price_keeps_its_invoice_a_draft(api: Api, metric: Any, send: Any) -> None:
    subscribed(api, metric)
    send(1_000_000, model="a-model-of-nobody")
    assert usage(api)["amount_cents"] == 0
    move(api, 2024, 4, 2)
    assert {
        each["status"] for each in api.get("/invoices")["invoices"] if each["total_amount_cents"] == 0
    } == {"draft"}


def test_usage_without_a_price_is_noticed(dsn: str, api: Api, metric: Any, send: Any) -> None:
    subscribed(api, metric, prices=[{**DAY, "model": "own"}])
    for model in ("gpt-4.1", "own", "a-model-of-nobody"):
        send(1_000, model=model)

    def noticed() -> list[Any]:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while rollup.roll_up(conn):
                pass
            while look_some(conn, api.organization.id, now=START):
                pass
            found = newest(conn, api.organization.id, limit=10)
        return [(each.of.values["model"], each.of.unlisted_values, each.units) for each in found]

    assert noticed() == [("a-model-of-nobody", "held", 1_000)]
    own = {**DAY, "model": "a-model-of-nobody"}
    api.put("/plans/pro/charges/llm", {"charge": {"properties": {"unpriced": "free", "prices": [own]}}})
    assert noticed() == [("own", "free", 1_000)]


def test_another_currency_needs_a_rate(api: Api, metric: Any, send: Any) -> None:
    own = charge(metric, code="llm", charge_model="catalogue", properties={"markup": "2"})
    refused = api.details("POST", "/plans", {"plan": api_plan(own)})
    assert refused == {"properties": ["exchange_rate_is_mandatory"]}
    subscribed(api, metric, "EUR", markup="2", exchange_rate="0.9")
    send(1_000_000)
    assert usage(api)["amount_cents"] == 360


def api_plan(own: Any) -> dict[str, Any]:
    return {
        "name": "P",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "EUR",
        "pay_in_advance": False,
        "charges": [own],
    }
