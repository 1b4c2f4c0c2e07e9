"""A subscription with a plan of its own, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from .conftest import Api, charge


@pytest.fixture
def sold(api: Api) -> Any:
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])
    filters = [{"values": {"model": ["a"]}, "properties": {"amount": "2"}}]
    made = api.plan("pro", [charge(metric, code="tokens", filters=filters)], amount_cents=1_000)
    api.customer()
    return made


def plan_of(api: Api, external_id: str = "sub") -> Any:
    return api.get(f"/subscriptions/{external_id}")["subscription"]["plan"]


def test_a_subscription_begins_with_prices_of_its_own(api: Api, sold: Any) -> None:
    overrides = {
        "amount_cents": 700,
        "name": "Pro for Acme",
        "charges": [
            {"id": sold["charges"][0]["lago_id"], "properties": {"amount": "0.5"}, "min_amount_cents": 90}
        ],
    }
    api.subscribe(plan_overrides=overrides)
    own = plan_of(api)
    assert (own["parent_id"], own["code"], own["name"], own["amount_cents"]) == (
        sold["lago_id"],
        "pro",
        "Pro for Acme",
        700,
    )
    (priced,) = own["charges"]
    assert (priced["lago_parent_id"], priced["properties"], priced["min_amount_cents"]) == (
        sold["charges"][0]["lago_id"],
        {"amount": "0.5"},
        90,
    )
    assert [entry["properties"] for entry in priced["filters"]] == [{"amount": "2"}]
    assert api.get("/plans/pro")["plan"]["charges"] == sold["charges"]
    assert [plan["lago_id"] for plan in api.get("/plans")["plans"]] == [sold["lago_id"]]
    again = api.subscribe()
    assert again["plan"]["lago_id"] == own["lago_id"], "the same plan again changes nothing"
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()}})
    (invoice,) = api.get("/invoices")["invoices"]
    # 27 of 31 days of 7.00, and of the least amount of 0.90
    assert invoice["fees_amount_cents"] == 610 + 78


def test_an_override_of_an_override_changes_it_in_place(api: Api, sold: Any) -> None:
    api.subscribe()
    charge_id = sold["charges"][0]["lago_id"]
    api.put("/subscriptions/sub", {"subscription": {"plan_overrides": {"amount_cents": 5}}})
    first = plan_of(api)
    override = {"charges": [{"id": charge_id, "properties": {"amount": "3"}}]}
    api.put("/subscriptions/sub", {"subscription": {"plan_overrides": override}})
    second = plan_of(api)
    assert (second["lago_id"], second["amount_cents"]) == (first["lago_id"], 5)
    assert second["charges"][0]["properties"] == {"amount": "3"}


def test_a_filter_may_be_named_by_the_id_that_it_had(api: Api, sold: Any) -> None:
    api.subscribe()
    path = "/subscriptions/sub/charges/tokens/filters"
    (before,) = api.get(path)["filters"]
    assert before["lago_id"] == sold["charges"][0]["filters"][0]["lago_id"]
    changed = api.put(f"{path}/{before['lago_id']}", {"filter": {"properties": {"amount": "8"}}})["filter"]
    assert changed["lago_id"] != before["lago_id"]
    assert api.get(path)["filters"][0]["properties"] == {"amount": "8"}
    assert api.get("/plans/pro/charges/tokens/filters")["filters"] == [before]
    api.delete(f"{path}/{changed['lago_id']}")
    assert api.get(path)["filters"] == []


@pytest.mark.parametrize("cascades", [True, False])
def test_a_plan_is_followed_when_that_is_asked_for(api: Api, sold: Any, cascades: bool) -> None:
    api.subscribe()
    api.put("/subscriptions/sub/charges/tokens", {"charge": {"invoice_display_name": "Mine"}})
    metric = {"lago_id": sold["charges"][0]["lago_billable_metric_id"]}
    kept = {
        **charge(metric),
        "id": sold["charges"][0]["lago_id"],
        "properties": {"amount": "4"},
        "filters": [],
    }
    charges = [kept, charge(metric, code="more", properties={"amount": "6"})]
    api.put("/plans/pro", {"plan": {"amount_cents": 1_100, "charges": charges, "cascade_updates": cascades}})
    own = plan_of(api)
    found = {
        each["code"]: (each["invoice_display_name"], each["properties"]["amount"], len(each["filters"]))
        for each in own["charges"]
    }
    if cascades:
        assert (own["amount_cents"], found) == (1_100, {"tokens": ("Mine", "4", 0), "more": (None, "6", 0)})
        api.delete("/plans/pro/charges/more", cascade_updates="true")
        assert len(plan_of(api)["charges"]) == 1
    else:
        assert (own["amount_cents"], found) == (1_000, {"tokens": ("Mine", "1", 1)})


def test_deleting_the_plan_ends_those_on_copies_of_it(api: Api, sold: Any) -> None:
    api.subscribe(plan_overrides={"amount_cents": 5})
    api.delete("/plans/pro")
    assert api.get("/subscriptions/sub", status="terminated")["subscription"]["status"] == "terminated"


def test_a_plan_with_copies_keeps_its_structure(api: Api, sold: Any) -> None:
    api.subscribe(plan_overrides={"amount_cents": 5})
    changed = api.put("/plans/pro", {"plan": {"interval": "weekly"}})["plan"]
    assert changed["interval"] == "monthly"


@pytest.mark.parametrize(
    ("overrides", "details"),
    [
        ({"amount_cents": -1}, {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_currency": "XXX"}, {"amount_currency": ["value_is_invalid"]}),
        ({"amount_currency": ""}, {"amount_currency": ["value_is_invalid"]}),
        ({"usage_thresholds": [{"amount_cents": 0}]}, {"amount_cents": ["value_is_out_of_range"]}),
        ("cheap", {"plan_overrides": ["value_is_invalid"]}),
    ],
)
def test_overrides_that_cannot_be(api: Api, sold: Any, overrides: Any, details: Any) -> None:
    wanted = {
        "external_customer_id": "cus",
        "plan_code": "pro",
        "external_id": "s",
        "plan_overrides": overrides,
    }
    assert api.details("POST", "/subscriptions", {"subscription": wanted}) == details


def test_a_charge_of_another_plan_is_not_found(api: Api, sold: Any) -> None:
    override = {"charges": [{"id": "0190cafe-0000-7000-8000-000000000000", "properties": {"amount": "3"}}]}
    wanted = {
        "external_customer_id": "cus",
        "plan_code": "pro",
        "external_id": "s",
        "plan_overrides": override,
    }
    assert api.code(404, "POST", "/subscriptions", {"subscription": wanted}) == "charge_not_found"
    assert (
        api.code(
            404, "PUT", "/subscriptions/nobody/charges/tokens", {"charge": {"properties": {"amount": "1"}}}
        )
        == "subscription_not_found"
    )
    api.subscribe()
    assert (
        api.code(404, "PUT", "/subscriptions/sub/charges/none", {"charge": {"properties": {"amount": "1"}}})
        == "charge_not_found"
    )
    assert plan_of(api)["parent_id"] is None, "nothing is half-written"


def test_charges_of_the_subscription_with_the_status_asked_for(api: Api, sold: Any) -> None:
    metric = {"lago_id": sold["charges"][0]["lago_billable_metric_id"]}
    api.plan("small", [charge(metric, code="tokens", properties={"amount": "7"})], amount_cents=1)
    api.subscribe()
    api.subscribe(plan="small")
    path = "/subscriptions/sub/charges/tokens"
    assert api.get(path)["charge"]["properties"] == {"amount": "1"}
    assert api.get(path, subscription_status="pending")["charge"]["properties"] == {"amount": "7"}
    assert api.code(404, "GET", path, subscription_status="terminated") == "subscription_not_found"
    changed = {"charge": {"properties": {"amount": "8"}}}
    api.put(path, changed, subscription_status="pending")
    assert api.get(path)["charge"]["properties"] == {"amount": "1"}
    assert api.get(path, subscription_status="pending")["charge"]["properties"] == {"amount": "8"}


def rows(api: Api) -> Any:
    """(status, amount of the plan) of every row of the subscription, oldest first."""
    found = api.get("/subscriptions", **{"status[]": ["pending", "active", "terminated", "canceled"]})
    return sorted(
        (
            each["status"],
            api.get("/subscriptions/sub", status=each["status"])["subscription"]["plan"]["amount_cents"],
        )
        for each in found["subscriptions"]
    )


def amount(cents: int) -> Any:
    return {"amount_cents": cents}


@pytest.mark.parametrize("own", [{"plan_overrides": amount(700)}, {}])
def test_dearer_terms_of_the_same_plan_take_over_at_once(api: Api, sold: Any, own: Any) -> None:
    first = api.subscribe(**own)
    made = api.subscribe(plan_overrides=amount(1_500))
    assert made["lago_id"] != first["lago_id"]
    assert plan_of(api)["amount_cents"] == 1_500
    assert [status for status, _ in rows(api)] == ["active", "terminated"]
    assert api.subscribe(plan_overrides=amount(1_500))["lago_id"] == made["lago_id"], (
        "a retry changes nothing"
    )
    assert api.subscribe()["lago_id"] == made["lago_id"], (
        "nor does the plan without terms: what was agreed stays"
    )
    assert plan_of(api)["amount_cents"] == 1_500


def test_other_prices_at_the_same_fee_take_over_at_once(api: Api, sold: Any) -> None:
    api.subscribe(plan_overrides=amount(700))
    terms = {"charges": [{"id": sold["charges"][0]["lago_id"], "properties": {"amount": "9"}}]}
    made = api.subscribe(plan_overrides={**amount(700), **terms})
    assert plan_of(api)["charges"][0]["properties"] == {"amount": "9"}
    assert api.subscribe(plan_overrides=terms)["lago_id"] == made["lago_id"], "it says nothing that is not so"


def test_cheaper_terms_of_the_same_plan_wait_for_the_end_of_the_period(api: Api, sold: Any) -> None:
    first = api.subscribe()
    for _ in range(2):
        shown = api.subscribe(plan_overrides=amount(300))
        assert (shown["lago_id"], shown["next_plan_code"], shown["downgrade_plan_date"]) == (
            first["lago_id"],
            "pro",
            "2024-04-01",
        )
    assert [status for status, _ in rows(api)] == ["active", "pending"], "asked twice, it waits once"
    now = datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()
    api.put("/test_clock", {"test_clock": {"now": now}})
    assert plan_of(api)["amount_cents"] == 300


def test_terms_of_a_subscription_that_waits_are_replaced(api: Api, sold: Any) -> None:
    first = api.subscribe(subscription_at="2024-05-01")
    made = api.subscribe(plan_overrides=amount(300))
    assert (made["lago_id"], made["status"], made["plan"]["amount_cents"]) == (
        first["lago_id"],
        "pending",
        300,
    )


def test_terms_follow_no_change_of_the_plan_by_a_retry(api: Api, sold: Any) -> None:
    first = api.subscribe(plan_overrides=amount(1_500))
    price = {"charge": {"properties": {"amount": "8"}}}
    api.put("/plans/pro/charges/tokens", price)
    assert api.subscribe(plan_overrides=amount(1_500))["lago_id"] == first["lago_id"]
    assert plan_of(api)["charges"][0]["properties"] == {"amount": "1"}
