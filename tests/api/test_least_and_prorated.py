"""Charges with a least amount and prorated ones, over HTTP to the invoice."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    conn, memory = open_connection(dsn), Memory()

    def one(at: datetime = START, code: str = "tokens", **properties: Any) -> None:
        draft = Draft(f"tx-{next(_numbers)}", code, "sub", microseconds(at), None, properties)
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])

    yield one
    conn.close()


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def fees(api: Api) -> list[Any]:
    return api.get("/fees", fee_type="charge")["fees"]


def ready(api: Api, *charges: Any) -> None:
    api.plan("pro", list(charges))
    api.customer()
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")


def test_what_is_missing_of_the_minimum_charge_is_a_fee_of_its_own(api: Api, send: Any) -> None:
    metric = api.metric(filters=[{"key": "model", "values": ["8K"]}])
    priced = [{"values": {"model": ["8K"]}, "properties": {"amount": "2"}}]
    ready(api, charge(metric, filters=priced, min_amount_cents=1_000))
    send(model="8K", tokens=3)
    move(api, 2024, 4, 1, 1)
    found = fees(api)
    assert sorted(fee["amount_cents"] for fee in found) == [0, 400, 600]
    (made_up,) = [fee for fee in found if fee["lago_true_up_parent_fee_id"]]
    (parent,) = [fee for fee in found if fee["lago_true_up_fee_id"]]
    assert made_up["lago_true_up_parent_fee_id"] == parent["lago_id"]
    assert parent["lago_true_up_fee_id"] == made_up["lago_id"]
    assert (parent["units"], parent["lago_charge_filter_id"]) == ("0.0", None)
    assert (made_up["units"], made_up["events_count"], made_up["amount_cents"]) == ("1.0", 0, 400)
    (invoice,) = api.get("/invoices")["invoices"]
    assert invoice["total_amount_cents"] == 1_000
    pdf = api.call("GET", f"/invoices/{invoice['lago_id']}/pdf")
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(pdf.content)).pages)
    assert "up to the agreed minimum" in " ".join(text.split())
    explained = api.get(f"/fees/{made_up['lago_id']}/explanation")["fee_explanation"]
    assert explained["events"]["count"] == 1, "of the whole charge"
    assert explained["recomputed"] == {
        "amount_cents": 400,
        "units": "1.0",
        "events_count": 0,
        "is_same": True,
    }


def test_enough_usage_adds_nothing(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), min_amount_cents=300))
    send(tokens=3)
    move(api, 2024, 4, 1, 1)
    assert [fee["amount_cents"] for fee in fees(api)] == [300]


def test_the_minimum_charge_of_a_part_of_a_period(api: Api) -> None:
    metric = api.metric()
    api.plan("pro", [charge(metric, min_amount_cents=1_000)])
    api.customer()
    api.subscribe(subscription_at="2024-03-15T00:00:00Z")
    move(api, 2024, 4, 1, 1)
    (_, made_up) = sorted(fees(api), key=lambda fee: fee["amount_cents"])
    assert made_up["amount_cents"] == 548, "17 of 31 days"


def test_prorated_units_are_shown_whole_and_priced_by_days(api: Api, send: Any) -> None:
    metric = api.metric(recurring=True)
    ready(api, charge(metric, prorated=True, properties={"amount": "31"}))
    send(START - timedelta(days=30), tokens=2)
    send(datetime(2024, 3, 22, tzinfo=UTC), tokens=3)
    move(api, 2024, 3, 25)
    path = "/customers/cus/current_usage"
    usage = api.get(path, external_subscription_id="sub")["customer_usage"]
    assert usage["amount_cents"] == 2 * 31 * 100 + 3 * 10 * 100
    assert usage["charges_usage"][0]["units"] == "5.0"
    move(api, 2024, 4, 1, 1)
    (fee,) = fees(api)
    assert (fee["units"], fee["amount_cents"]) == ("5.0", 9_200)
    explained = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]
    assert explained["recomputed"]["is_same"] is True
    assert explained["events"]["count"] == 2
    assert [(step["text"], step["amount"]) for step in explained["formula"]] == [
        ("5 units, each for the days on which it was there: 92.00025", "92.00025"),
        ("92.00025 EUR to the smallest unit, half away from zero: 92", "-0.00025"),
    ]
    move(api, 2024, 5, 1, 1)
    assert max(fee["amount_cents"] for fee in fees(api)) == 5 * 31 * 100, "all of April"


def test_prorated_seats(api: Api, send: Any) -> None:
    metric = api.metric("seats", aggregation_type="unique_count_agg", field_name="seat", recurring=True)
    ready(api, charge(metric, prorated=True, properties={"amount": "31"}))
    send(START - timedelta(days=30), "seats", seat="a")
    send(datetime(2024, 3, 11, 9, tzinfo=UTC), "seats", seat="b")
    send(datetime(2024, 3, 12, 9, tzinfo=UTC), "seats", seat="b", operation_type="remove")
    move(api, 2024, 4, 1, 1)
    (fee,) = fees(api)
    assert (fee["units"], fee["amount_cents"]) == ("1.0", 3_300), "31 days and 2"


def test_what_cannot_be_prorated(api: Api) -> None:
    body = {
        "name": "p",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "EUR",
        "pay_in_advance": False,
        "charges": [charge(api.metric(), prorated=True)],
    }
    refused = api.details("POST", "/plans", {"plan": body})
    assert refused == {"prorated": ["invalid_billable_metric_or_charge_model"]}


def test_the_minimum_charge_up_to_a_termination(api: Api, send: Any) -> None:
    priced = {"amount": "1", "pricing_group_keys": ["team"]}
    ready(api, charge(api.metric(), properties=priced, min_amount_cents=3_100))
    for team, tokens in (("b", 2), ("a", 3)):
        send(datetime(2024, 3, 5, tzinfo=UTC), team=team, tokens=tokens)
    move(api, 2024, 3, 15, 12)
    api.call("DELETE", "/subscriptions/sub")
    move(api, 2024, 3, 15, 13)
    found = {fee["lago_id"]: fee for fee in fees(api)}
    assert sorted(fee["amount_cents"] for fee in found.values()) == [200, 300, 1_500 - 500]
    (made_up,) = [fee for fee in found.values() if fee["lago_true_up_parent_fee_id"]]
    parent = found[made_up["lago_true_up_parent_fee_id"]]
    assert parent["item"]["grouped_by"] == {"team": "a"}, "the first group"
    assert parent["lago_true_up_fee_id"] == made_up["lago_id"]
    assert made_up["item"]["grouped_by"] == {}


def test_usage_knows_nothing_of_the_minimum_charge(api: Api) -> None:
    ready(api, charge(api.metric(), min_amount_cents=1_000))
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert usage["amount_cents"] == 0


def test_prorated_ranges_of_seats_up_to_a_termination(api: Api, send: Any) -> None:
    """In Tokyo: what is sent at 16:00 UTC on the 19th is of the 20th, so two seats stand from there."""
    ranges = [
        {"from_value": 0, "to_value": 1, "per_unit_amount": "31", "flat_amount": "1"},
        {"from_value": 2, "to_value": None, "per_unit_amount": "3.1", "flat_amount": "2"},
    ]
    metric = api.metric("seats", aggregation_type="unique_count_agg", field_name="seat", recurring=True)
    priced = {"graduated_ranges": ranges}
    api.plan("pro", [charge(metric, charge_model="graduated", prorated=True, properties=priced)])
    api.customer(timezone="Asia/Tokyo")
    api.subscribe(subscription_at="2024-02-29T15:00:00Z")
    send(START - timedelta(days=30), "seats", seat="a")
    send(datetime(2024, 3, 19, 16, tzinfo=UTC), "seats", seat="b")
    send(datetime(2024, 3, 20, 9, tzinfo=UTC), "seats", other="without a value")
    move(api, 2024, 3, 29, 12)
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert usage["charges_usage"][0]["units"] == "3.0"
    assert usage["amount_cents"] == 3_100 + 2 * 12 * 10 + 300
    api.call("DELETE", "/subscriptions/sub")
    move(api, 2024, 3, 29, 13)
    (fee,) = fees(api)
    assert (fee["units"], fee["amount_cents"]) == ("3.0", 2_900 + 2 * 10 * 10 + 300)
    assert fee["to_date"].startswith("2024-03-29T12:00:00")
