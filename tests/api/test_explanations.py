"""GET /fees/{id}/explanation: the formula, the events behind a fee, and whether it comes out the same now."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

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
    assert after["recomputed"]["is_same"] is False
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
    assert [Decimal(step["amount"]) for step in formula] == [0, 0]


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


def adds_up(fee: Any, found: Any) -> bool:
    total = sum(Decimal(step["amount"]) for step in found["formula"])
    return total == Decimal(fee["amount_cents"]) / 100


def subscribed(api: Api, **fields: Any) -> Any:
    """To a plan with one charge, from the 15th of March on: 17 of 31 days."""
    metric = api.metric(recurring=fields.get("prorated", False))
    api.plan("pro", [charge(metric, **fields)], amount_cents=3_100)
    api.customer()
    api.subscribe(subscription_at="2024-03-15T00:00:00Z")


def at(day: int) -> datetime:
    return datetime(2024, 3, day, 12, tzinfo=UTC)


def test_events_without_a_number_are_not_behind_a_sum(api: Api, send: Any) -> None:
    subscribed(api)
    names = [send(at(20), tokens=3), send(at(22), tokens="4.5")]
    send(at(21), tokens="many")
    send(at(21))
    (fee,) = bill(api)
    found = explanation(api, fee, per_page=1)
    assert found["events"]["count"] == found["events"]["count_on_fee"] == 2
    assert [event["transaction_id"] for event in found["events"]["page"]] == names[:1]
    after = explanation(api, fee, per_page=1, cursor=found["events"]["next_cursor"])["events"]
    assert [event["transaction_id"] for event in after["page"]] == names[1:]
    assert after["next_cursor"] is None
    send(at(23), tokens="lots")
    assert explanation(api, fee, per_page=1)["events"]["digest"] == found["events"]["digest"]


TIERS = [
    {"from_value": 0, "to_value": 5, "per_unit_amount": "0.7", "flat_amount": "1"},
    {"from_value": 6, "to_value": None, "per_unit_amount": "0.3", "flat_amount": "0.5"},
]


@pytest.mark.parametrize(
    "priced",
    [
        {"charge_model": "standard", "properties": {"amount": "1.1"}},
        {"charge_model": "graduated", "properties": {"graduated_ranges": TIERS}},
        {"charge_model": "volume", "properties": {"volume_ranges": TIERS}},
    ],
    ids=lambda priced: priced["charge_model"],
)
def test_prorated_units_add_up_to_the_amount(api: Api, send: Any, priced: Any) -> None:
    subscribed(api, prorated=True, **priced)
    for day, tokens in ((16, 7), (20, -2), (27, 4)):
        send(at(day), tokens=tokens)
    (fee,) = bill(api)
    found = explanation(api, fee)
    assert fee["units"] == "9.0"
    assert fee["amount_cents"] > 0
    assert "the days on which it was there" in found["formula"][0]["text"]
    assert adds_up(fee, found)
    assert found["recomputed"]["is_same"] is True


@pytest.mark.parametrize("model", ["graduated", "volume"])
def test_usage_below_zero_costs_nothing(api: Api, send: Any, model: str) -> None:
    subscribed(api, charge_model=model, properties={f"{model}_ranges": TIERS})
    send(at(20), tokens=-7)
    (fee,) = bill(api)
    found = explanation(api, fee)
    assert fee["amount_cents"] == 0
    assert fee["events_count"] == 1
    assert found["formula"][0] == {"text": "usage below zero costs nothing", "amount": "0.0"}
    assert adds_up(fee, found)


def test_a_true_up_is_explained_by_the_other_fees(api: Api, send: Any) -> None:
    """10.00 for 17 of 31 days is 5.48387...; twice 2.3345, each rounded, is 4.66."""
    subscribed(api, properties={"amount": "0.3335", "pricing_group_keys": ["team"]}, min_amount_cents=1_000)
    sent = [send(at(20), tokens=7, team="blue"), send(at(21), tokens=7, team="red")]
    fees = bill(api)
    (made_up,) = [fee for fee in fees if fee["lago_true_up_parent_fee_id"]]
    assert (made_up["amount_cents"], made_up["precise_amount"]) == (82, "0.81487096774193548")
    found = explanation(api, made_up)
    assert adds_up(made_up, found)
    assert [Decimal(step["amount"]) for step in found["formula"][:2]] == [
        Decimal("5.48387096774193548"),
        Decimal("-4.66"),
    ]
    assert [event["transaction_id"] for event in found["events"]["page"]] == sent
    assert found["recomputed"] == {"amount_cents": 82, "units": "1.0", "events_count": 0, "is_same": True}
    send(at(22), tokens=1, team="red")
    late = explanation(api, made_up)
    assert (late["events"]["count"], late["recomputed"]["amount_cents"]) == (3, 48)
    assert late["recomputed"]["is_same"] is False
    send(at(22), tokens=100, team="red")
    enough = explanation(api, made_up)["recomputed"]
    assert enough == {"amount_cents": 0, "units": "0.0", "events_count": 0, "is_same": False}


def test_a_subscription_fee_is_explained_by_the_plan(api: Api) -> None:
    subscribed(api)
    bill(api)
    (fee,) = api.get("/fees", fee_type="subscription")["fees"]
    found = explanation(api, fee)
    assert fee["amount_cents"] == 1_700
    assert found["formula"][0]["text"] == "the plan's amount of 31, by the days of the period: 17"
    assert adds_up(fee, found)


def test_fees_of_others_are_not_explained(api: Api) -> None:
    path = "/fees/00000000-0000-7000-8000-000000000000/explanation"
    assert api.code(404, "GET", path) == "fee_not_found"


def test_an_upgrade_spares_its_day_when_it_is_reckoned_again_too(api, send):
    seats = api.metric(recurring=True)
    for code, cents in [("small", 0), ("large", 5000)]:
        by_days = charge(seats, properties={"amount": "1"}, prorated=True)
        api.plan(code, [by_days], amount_cents=cents)
    api.customer()
    send(at=START - timedelta(days=1), tokens=31)
    api.subscribe(plan_code="small")
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 3, 20, 7, tzinfo=UTC).isoformat()}})
    api.subscribe(plan_code="large")
    (fee,) = api.get("/fees", fee_type="charge")["fees"]
    assert fee["amount_cents"] == 1500  # the 5th to the 19th
    found = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]["recomputed"]
    assert (found["amount_cents"], found["is_same"]) == (1500, True)
