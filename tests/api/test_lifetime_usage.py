"""GET and PUT /subscriptions/{id}/lifetime_usage over HTTP, through periods, changes of plan and corrections."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from .conftest import START, charge
from .test_usage import move, ready, send

__all__ = ["send"]

PATH = "/subscriptions/sub/lifetime_usage"
HISTORICAL = "external_historical_usage_amount_cents"


def lifetime(api: Any, **params: Any) -> Any:
    return api.get(PATH, **params)["lifetime_usage"]


def figures(api: Any, **params: Any) -> tuple[int, int, int]:
    """Historical, invoiced, current."""
    found = lifetime(api, **params)
    return (
        found[HISTORICAL],
        found["invoiced_usage_amount_cents"],
        found["current_usage_amount_cents"],
    )


def test_the_object(api):
    ready(api)
    subscription = api.get("/subscriptions/sub")["subscription"]["lago_id"]
    found = lifetime(api)
    assert UUID(found.pop("lago_id"))
    assert found == {
        "lago_subscription_id": subscription,
        "external_subscription_id": "sub",
        HISTORICAL: 0,
        "invoiced_usage_amount_cents": 0,
        "current_usage_amount_cents": 0,
        "from_datetime": "2024-03-05T10:00:00Z",
        "to_datetime": "2024-03-05T10:00:00Z",
        "usage_thresholds": [],
    }


def test_usage_moves_from_current_to_invoiced_without_the_plans_fee_and_taxes(api, send):
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    ready(api, charge(api.metric()), amount_cents=3_100)
    send(tokens=7)
    assert figures(api) == (0, 0, 700)
    move(api, 2024, 4, 1, 1)
    assert figures(api) == (0, 700, 0)
    send(at=datetime(2024, 4, 1, 1, tzinfo=UTC), tokens=5)
    assert figures(api) == (0, 700, 500)
    # a late event of a period that is billed counts nowhere, a correction of the running one at once
    send(at=datetime(2024, 3, 20, tzinfo=UTC), tokens=100)
    send(at=datetime(2024, 4, 1, 1, tzinfo=UTC), tokens=-3)
    assert figures(api) == (0, 700, 200)
    move(api, 2024, 6, 1, 1)
    assert figures(api) == (0, 900, 0)


def test_a_change_of_plan_goes_on_and_another_subscription_begins_again(api, send):
    ready(api, charge(api.metric()))
    api.plan("dear", [charge({"lago_id": metric_id(api)}, properties={"amount": "2"})], amount_cents=100)
    api.put(PATH, {"lifetime_usage": {HISTORICAL: 50}})
    first = lifetime(api)
    send(tokens=1)
    move(api, 2024, 3, 10)
    api.subscribe(plan="dear")
    assert figures(api) == (50, 100, 0)
    send(at=datetime(2024, 3, 11, tzinfo=UTC), tokens=1)
    assert figures(api) == (50, 100, 200)
    after = lifetime(api)
    assert (after["lago_id"], after["from_datetime"]) == (first["lago_id"], "2024-03-05T10:00:00Z")
    api.put(PATH, {"lifetime_usage": {HISTORICAL: 60}})
    api.delete("/subscriptions/sub")
    assert api.code(404, "GET", PATH) == "subscription_not_found"
    assert figures(api, status="terminated") == (60, 100, 0)
    move(api, 2024, 3, 20)
    api.subscribe()
    assert figures(api) == (0, 0, 0)
    assert lifetime(api)["lago_id"] != first["lago_id"]


def metric_id(api: Any) -> str:
    found: str = api.get("/billable_metrics/tokens")["billable_metric"]["lago_id"]
    return found


def test_what_is_paid_in_advance_counts_once(api, send):
    ready(api, charge(api.metric(), pay_in_advance=True))
    send(tokens=4)
    move(api, 2024, 3, 5, 11)
    assert len(api.get("/invoices")["invoices"]) == 1
    assert figures(api) == (0, 0, 400)
    move(api, 2024, 4, 1, 1)
    assert figures(api) == (0, 400, 0)
    send(at=datetime(2024, 4, 1, 1, tzinfo=UTC), tokens=2)
    move(api, 2024, 4, 1, 2)
    assert figures(api) == (0, 400, 200)
    api.delete("/subscriptions/sub")
    assert figures(api, status="terminated") == (0, 600, 0)


@pytest.mark.parametrize("seed", range(4))
def test_months_of_usage_are_all_that_was_sent_in_time(api, send, seed):
    """Against the sum of the raw events, 1.00 a token: those that came in the period that they are of."""
    chance = random.Random(seed)
    ready(api, charge(api.metric()), charge(api.metric("calls")), amount_cents=500)
    api.put(PATH, {"lifetime_usage": {HISTORICAL: 77}})
    sent: list[tuple[datetime, int]] = []
    now = START
    for _ in range(25):
        now += timedelta(hours=chance.randrange(1, 24 * 12))
        move(api, now.year, now.month, now.day, now.hour)
        opened = max(now.replace(day=1, hour=0), START)
        at = now - timedelta(days=chance.choice([0, 0, 3, 40]))
        tokens = chance.randrange(1, 9)
        send(chance.choice(["tokens", "calls"]), at=at, tokens=tokens)
        if at >= opened:
            sent.append((opened, tokens))
        before = sum(100 * tokens for period, tokens in sent if period < opened)
        running = sum(100 * tokens for period, tokens in sent if period == opened)
        assert figures(api) == (77, before, running)


def test_a_draft_is_invoiced(api, send):
    ready(api, charge(api.metric()), customer={"billing_configuration": {"invoice_grace_period": 5}})
    send(tokens=7)
    move(api, 2024, 4, 1, 1)
    (draft,) = api.get("/invoices")["invoices"]
    assert draft["status"] == "draft"
    assert figures(api) == (0, 700, 0)


def test_a_pending_subscription_has_used_nothing(api):
    api.plan("pro", [charge(api.metric())])
    api.customer()
    api.subscribe(subscription_at="2024-06-01T00:00:00Z")
    assert api.code(404, "GET", PATH) == "subscription_not_found"
    assert lifetime(api, status="pending")["from_datetime"] is None


def test_what_cannot_be_historical(api, stranger):
    ready(api)
    for given_value, code in (
        (-1, "value_is_out_of_range"),
        ("much", "value_is_invalid"),
        (1.5, "value_is_invalid"),
        (None, "value_is_mandatory"),
    ):
        body = {"lifetime_usage": {HISTORICAL: given_value}}
        assert api.details("PUT", PATH, body) == {HISTORICAL: [code]}
    assert api.details("PUT", PATH, {"lifetime_usage": {"other": 1}}) == {HISTORICAL: ["value_is_mandatory"]}
    assert api.code(400, "PUT", PATH, {"lifetime_usage": {}}) is None
    body = {"lifetime_usage": {HISTORICAL: 1}}
    assert stranger.code(404, "PUT", PATH, body) == "subscription_not_found"
    assert figures(api) == (0, 0, 0)
