"""GET /fees/{id}/explanation: the formula, the events behind a fee, and whether it comes out the same now."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from permille.ingest.intake import Draft, microseconds
from permille.ingest.writer import Memory, Request, open_connection, store

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    conn, memory = open_connection(dsn), Memory()

    def one(at: datetime = START, **properties: Any) -> str:
        name = f"tx-{next(_numbers)}"
        draft = Draft(name, "tokens", "sub", microseconds(at), None, properties)
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])
        return name

    yield one
    conn.close()


def bill(api: Api) -> list[Any]:
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()}})
    return api.get("/fees", fee_type="charge")["fees"]


@pytest.fixture
def plan(api: Api) -> None:
    metric = api.metric(filters=[{"key": "model", "values": ["8K", "32K"]}])
    package = {"amount": "0.03", "package_size": 1000, "free_units": 0}
    api.plan(
        "pro",
        [
            charge(
                metric,
                charge_model="package",
                properties=package | {"pricing_group_keys": ["team"]},
                filters=[
                    {
                        "values": {"model": ["8K"]},
                        "properties": package | {"amount": "0.06", "pricing_group_keys": ["team"]},
                    }
                ],
            )
        ],
    )
    api.customer()
    api.subscribe()


def explanation(api: Api, fee: Any, **params: Any) -> Any:
    return api.get(f"/fees/{fee['lago_id']}/explanation", **params)["fee_explanation"]


def test_every_fee_names_its_own_events_and_comes_out_the_same(api: Api, plan: None, send: Any) -> None:
    sent = {
        ("8K", "red"): [
            send(START + timedelta(hours=n), model="8K", team="red", tokens=700) for n in range(5)
        ],
        ("8K", "blue"): [send(model="8K", team="blue", tokens=1)],
        ("32K", "red"): [send(model="32K", team="red", tokens=2_500)],
    }
    fees = bill(api)
    assert len(fees) == 3
    seen = set()
    for fee in fees:
        found = explanation(api, fee)
        model = "8K" if found["filter"] else "32K"
        names = [event["transaction_id"] for event in found["events"]["page"]]
        place = (model, found["grouped_by"]["team"])
        assert names == sent[place], "oldest first, and no other's"
        assert found["events"]["count"] == found["events"]["count_on_fee"] == len(names)
        assert found["recomputed"]["is_same"] is True
        assert found["recomputed"]["amount_cents"] == fee["amount_cents"]
        seen.add(found["events"]["digest"])
    assert len(seen) == 3
    red = next(fee for fee in fees if fee["units"] == "3500.0")
    texts = [step["text"] for step in explanation(api, red)["formula"]]
    assert texts == [
        "3,500 units, in packages of 1,000 begun: 4 x 0.06 = 0.24",
        "0.24 EUR to the smallest unit, half away from zero: 0.24",
    ]


def test_events_are_paged_by_a_cursor(api: Api, plan: None, send: Any) -> None:
    sent = [send(model="8K", team="red", tokens=1) for _ in range(7)]
    (fee,) = bill(api)
    names, cursor = [], None
    while True:
        found = explanation(api, fee, per_page=3, **({"cursor": cursor} if cursor else {}))
        names += [event["transaction_id"] for event in found["events"]["page"]]
        cursor = found["events"]["next_cursor"]
        if cursor is None:
            break
    assert sorted(names) == sorted(sent)
    path = f"/fees/{fee['lago_id']}/explanation"
    for junk in ("x", "AAAA", "%%%"):
        assert api.details("GET", path, None, cursor=junk) == {"cursor": ["value_is_invalid"]}


def test_a_late_event_shows(api: Api, plan: None, send: Any) -> None:
    send(model="8K", team="red", tokens=1_000)
    (fee,) = bill(api)
    before = explanation(api, fee)
    send(model="8K", team="red", tokens=1)
    after = explanation(api, fee)
    assert after["events"]["digest"] != before["events"]["digest"]
    assert (after["events"]["count"], after["events"]["count_on_fee"]) == (2, 1)
    assert after["recomputed"] == {
        "amount_cents": 12,
        "units": "1001.0",
        "events_count": 2,
        "is_same": False,
    }


def test_a_changed_value_changes_the_digest(api: Api, plan: None, send: Any, dsn: str) -> None:
    name = send(model="8K", team="red", tokens=5)
    (fee,) = bill(api)
    before = explanation(api, fee)["events"]["digest"]
    with psycopg.connect(dsn) as conn:
        conn.execute("update event set value = 6 where transaction_id = %s", [name])
    assert explanation(api, fee)["events"]["digest"] != before


def test_a_changed_price_shows(api: Api, plan: None, send: Any) -> None:
    send(model="8K", team="red", tokens=1_000)
    (fee,) = bill(api)
    found = api.get("/plans/pro")["plan"]
    charges = found["charges"]
    charges[0]["id"] = charges[0]["lago_id"]
    charges[0]["billable_metric_id"] = charges[0]["lago_billable_metric_id"]
    charges[0]["filters"][0]["properties"]["amount"] = "1"
    changed = {
        name: charges[0][name]
        for name in ("id", "billable_metric_id", "charge_model", "properties", "filters")
    }
    api.put("/plans/pro", {"plan": {"charges": [changed]}})
    after = explanation(api, fee)
    assert after["recomputed"] is None or after["recomputed"]["is_same"] is False
    assert after["formula"][0]["text"].endswith("1 x 0.06 = 0.06"), "what was billed stays explained"


def test_negative_usage_is_explained_as_nothing(api: Api, send: Any) -> None:
    tiers = [{"from_value": 0, "to_value": None, "per_unit_amount": "2", "flat_amount": "0"}]
    properties = {"graduated_ranges": tiers}
    api.plan("pro", [charge(api.metric(), charge_model="graduated", properties=properties)])
    api.customer()
    api.subscribe()
    send(tokens=-3)
    (fee,) = bill(api)
    assert (fee["units"], fee["amount_cents"]) == ("0.0", 0)
    formula = explanation(api, fee)["formula"]
    assert [Decimal(step["amount"]) for step in formula] == [-6, 6, 0]


def test_a_subscription_fee_has_only_its_amount(api: Api) -> None:
    api.plan("pro", [], amount_cents=1_000)
    api.customer()
    api.subscribe()
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()}})
    (fee,) = api.get("/fees")["fees"]
    found = explanation(api, fee)
    assert found["events"] is None
    assert found["recomputed"] is None
    assert len(found["formula"]) == 2


def test_fees_of_others_are_not_explained(api: Api) -> None:
    path = "/fees/00000000-0000-7000-8000-000000000000/explanation"
    assert api.code(404, "GET", path) == "fee_not_found"
