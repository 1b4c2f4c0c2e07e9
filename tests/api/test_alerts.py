"""Alerts over the API, and what fires them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from permille.api.alerts import render_triggered_alert
from permille.api.webhooks import RENDERERS
from permille.core.alert import AlertOwner
from permille.database.connections import open_pool
from permille.events.engine import upkeep
from permille.store import alerts as store, customers, subscriptions
from permille.usecases import alerts
from permille.usecases.usage.lifetime_usage import lifetime_cents
from permille.usecases.usage.usage import UsageSearch, running_usages
from tests.api.conftest import START, Api, charge
from tests.api.test_amendments import Sender, send

__all__ = ["send"]

SUB = "/subscriptions/sub/alerts"


@pytest.fixture
def metered(api: Api) -> Api:
    """ops at 5.00 in two groups of models, and calls at 1.00 each."""
    ops = api.metric("ops", filters=[{"key": "model", "values": ["a", "b"]}])
    calls = api.metric("calls")
    filters = [{"values": {"model": ["a"]}, "properties": {"amount": "3"}}]
    api.plan(charges=[charge(ops, properties={"amount": "5"}, filters=filters), charge(calls)])
    api.customer()
    api.subscribe()
    return api


def body(alert_type: str = "current_usage_amount", *values: Any, code: str = "a", **fields: Any) -> Any:
    steps = [{"code": f"t{value}", "value": value} for value in values or (1000,)]
    return {"alert": {"alert_type": alert_type, "code": code, "thresholds": steps, **fields}}


def fired(api: Api) -> list[Any]:
    """What fires once the clock moves on by ten minutes, by code: previous and current value, and thresholds."""
    seen = {each.id for each in firings(api)}
    now = api.get("/test_clock")["test_clock"]["now"]
    later = START.fromisoformat(now.replace("Z", "+00:00")) + timedelta(minutes=10)
    api.put("/test_clock", {"test_clock": {"now": later.isoformat()}})
    new = [render_triggered_alert(each) for each in firings(api) if each.id not in seen]
    return sorted(
        (
            each.alert_code,
            each.previous_value,
            each.current_value,
            [threshold.value for threshold in each.crossed_thresholds],
        )
        for each in new
    )


def firings(api: Api) -> list[store.TriggeredAlert]:
    api.conn.rollback()
    owner = AlertOwner(external_subscription_id="sub")
    return store.newest_firings(api.conn, api.organization.id, owner, limit=100)


def test_each_type_sees_its_own_value(metered: Api, send: Sender) -> None:
    for code, alert_type, value, metric in (
        ("amount", "current_usage_amount", 3700, None),
        ("metric", "billable_metric_current_usage_amount", 2000, "ops"),
        ("units", "billable_metric_current_usage_units", "4.5", "ops"),
        ("life", "lifetime_usage_amount", 3700, None),
    ):
        fields = {"billable_metric_code": metric} if metric else {}
        metered.post(SUB, body(alert_type, value, code=code, **fields))
    send(code="ops", tokens=4, model="b")
    assert fired(metered) == [("metric", "0.0", "2000.0", ["2000.0"])]
    send(code="ops", tokens=5, model="a")
    assert fired(metered) == [
        ("units", "4.0", "5.0", ["4.5"])
    ]  # the highest of the metric's fees, not their sum
    send(code="calls", tokens=2)
    assert fired(metered) == [
        ("amount", "3500.0", "3700.0", ["3700.0"]),
        ("life", "3500.0", "3700.0", ["3700.0"]),
    ]
    shown = metered.get(f"{SUB}/units")["alert"]
    assert (shown["previous_value"], shown["billable_metric"]["code"]) == ("5.0", "ops")
    assert fired(metered) == []


def test_a_new_period_begins_at_nothing_but_a_lifetime_goes_on(metered: Api, send: Sender) -> None:
    metered.post(
        SUB,
        {
            "alerts": [
                body("current_usage_amount", 300, 700)["alert"],
                body("lifetime_usage_amount", 300, 700, code="life")["alert"],
            ]
        },
    )
    send(code="calls", tokens=4)
    assert fired(metered) == [("a", "0.0", "400.0", ["300.0"]), ("life", "0.0", "400.0", ["300.0"])]
    metered.put("/test_clock", {"test_clock": {"now": "2024-04-02T00:00:00Z"}})
    send(datetime(2024, 4, 1, 12, tzinfo=UTC), code="calls", tokens=5)
    assert fired(metered) == [("a", "0.0", "500.0", ["300.0"]), ("life", "400.0", "900.0", ["700.0"])]


def test_a_bill_that_is_made_during_a_look_counts_no_usage_twice(metered: Api, send: Sender) -> None:
    send(code="calls", tokens=4)
    metered.conn.rollback()
    row = subscriptions.running(metered.conn, metered.organization.id, ["sub"])["sub"]
    customer = customers.by_ids(metered.conn, [row.customer_id])[row.customer_id]
    search = UsageSearch(with_taxes=False)
    (used,) = running_usages(metered.conn, [(row, customer)], search=search, now=START)
    metered.conn.rollback()
    metered.put("/test_clock", {"test_clock": {"now": "2024-04-02T00:00:00Z"}})
    metered.conn.rollback()
    assert lifetime_cents(metered.conn, [(row, used)]) == [400]


def test_usage_that_is_voided_goes_back_and_fires_again(metered: Api, send: Sender) -> None:
    metered.post(SUB, body("current_usage_amount", 300))
    sent = send(code="calls", tokens=4)
    assert [each[0] for each in fired(metered)] == ["a"]
    amendment = {
        "transaction_id": "v",
        "event_transaction_id": sent,
        "kind": "void",
        "reason": "twice",
    }
    metered.post("/events/amendments", {"amendment": amendment})
    assert fired(metered) == []
    assert metered.get(f"{SUB}/a")["alert"]["previous_value"] == "0.0"
    send(code="calls", tokens=3)
    assert fired(metered) == [("a", "0.0", "300.0", ["300.0"])]


def test_an_alert_of_what_is_used_already_fires_at_once_and_the_webhook_shows_the_figure(
    metered: Api,
    send: Sender,
) -> None:
    endpoint = {"webhook_url": "http://127.0.0.1:9/", "event_types": ["alert.triggered"]}
    metered.post("/webhook_endpoints", {"webhook_endpoint": endpoint})
    send(code="calls", tokens=9)
    metered.post(SUB, body("current_usage_amount", 500, name="Half"))
    assert fired(metered) == [("a", "0.0", "900.0", ["500.0"])]
    (firing,) = firings(metered)
    queued = metered.row(
        "select webhook_type, object_type, object_id from webhook where organization_id = %(organization)s"
    )
    assert queued == ("alert.triggered", "triggered_alert", firing.id)
    shown: Any = RENDERERS["triggered_alert"](metered.conn, [firing.id])[firing.id]
    assert (shown.alert_name, shown.external_customer_id, shown.external_subscription_id) == (
        "Half",
        "cus",
        "sub",
    )
    metered.delete(f"{SUB}/a")
    assert firings(metered) == [firing]


def test_the_worker_looks_at_what_is_counted_in_one_turn(metered: Api, send: Sender) -> None:
    metered.post(SUB, body("current_usage_amount", 100, 400))
    fired(metered)
    send(code="calls", tokens=1)
    metered.conn.rollback()
    metered.conn.autocommit = True
    try:
        while upkeep.roll_up(metered.conn):
            pass
        with metered.conn.transaction():
            while alerts.detect(metered.conn):
                pass
        with metered.conn.transaction():
            assert alerts.look(metered.conn, metered.organization.id, now=START, system_now=START) == 1
            assert alerts.look(metered.conn, metered.organization.id, now=START, system_now=START) == 0
        dearer = {"charge": {"properties": {"amount": "4"}}}
        by_code = {
            each["billable_metric_code"]: each for each in metered.get("/plans/pro/charges")["charges"]
        }
        metered.put(f"/plans/pro/charges/{by_code['calls']['code']}", dearer)
        with metered.conn.transaction():
            assert alerts.look(metered.conn, metered.organization.id, now=START, system_now=START) == 1
    finally:
        metered.conn.autocommit = False
    assert [each.current_value for each in firings(metered)] == [Decimal(400), Decimal(100)]


def test_a_metrics_alerts_go_with_it(metered: Api) -> None:
    metered.post(SUB, body("billable_metric_current_usage_units", billable_metric_code="calls"))
    metered.delete("/billable_metrics/calls")
    assert metered.get(SUB)["alerts"] == []


def test_alerts_are_listed_changed_and_deleted(metered: Api) -> None:
    made = metered.post(
        SUB, {"alerts": [body(code="a")["alert"], body("lifetime_usage_amount", code="b")["alert"]]}
    )
    assert [(each["code"], each["direction"]) for each in made["alerts"]] == [
        ("a", "increasing"),
        ("b", "increasing"),
    ]
    step = {"value": "2.5", "recurring": True}
    changed = metered.put(f"{SUB}/a", {"alert": {"code": "c", "name": "C", "thresholds": [step]}})["alert"]
    assert changed["thresholds"] == [{"code": None, "value": "2.5", "recurring": True}]
    assert metered.details("PUT", f"{SUB}/c", {"alert": {"code": "b"}}) == {"code": ["value_already_exist"]}
    assert metered.get(SUB)["meta"]["total_count"] == 2
    assert metered.delete(f"{SUB}/c")["alert"]["name"] == "C"
    assert metered.code(404, "GET", f"{SUB}/c") == "alert_not_found"
    assert len(metered.delete(SUB)["alerts"]) == 1
    assert metered.get(SUB)["alerts"] == []


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"alert_type": None}, {"alert_type": ["value_is_mandatory", "value_is_invalid"]}),
        ({"alert_type": "wallet_balance_amount"}, {"alert_type": ["invalid_type"]}),
        ({"code": ""}, {"code": ["value_is_mandatory"]}),
        ({"thresholds": []}, {"thresholds": ["value_is_mandatory"]}),
        ({"thresholds": 7}, {"thresholds": ["value_is_invalid"]}),
        ({"thresholds": [{"code": "x"}]}, {"thresholds:value": ["value_is_mandatory"]}),
        ({"thresholds": [{"value": "much"}]}, {"thresholds:value": ["value_is_invalid"]}),
        (
            {"thresholds": [{"value": -1, "recurring": True}]},
            {"thresholds:value": ["recurring_value_is_negative"]},
        ),
        ({"thresholds": [{"value": 0, "recurring": True}]}, {"thresholds:value": ["value_is_invalid"]}),
        ({"thresholds": [{"value": 1}, {"value": "1.0"}]}, {"thresholds": ["duplicate_threshold_values"]}),
        ({"thresholds": [{"value": n} for n in range(21)]}, {"thresholds": ["too_many_thresholds"]}),
        (
            {"alert_type": "billable_metric_current_usage_units"},
            {"billable_metric_code": ["value_is_mandatory"]},
        ),
        ({"billable_metric_code": "ops"}, {"billable_metric_code": ["value_must_be_blank"]}),
        ({"alert_type": "lifetime_usage_amount", "code": "there"}, {"code": ["value_already_exist"]}),
        ({}, {"base": ["alert_already_exists"]}),
    ],
)
def test_what_is_refused_says_why_and_a_batch_says_which(metered: Api, change: Any, details: Any) -> None:
    metered.post(SUB, body(code="there"))
    sent = {"alert": {**body()["alert"], **change}}
    assert metered.details("POST", SUB, sent) == details
    fine = body("lifetime_usage_amount", code="fine")["alert"]
    if sent["alert"]["alert_type"] != "lifetime_usage_amount":
        assert metered.details("POST", SUB, {"alerts": [fine, sent["alert"]]}) == {"1": details}
    assert [each["code"] for each in metered.get(SUB)["alerts"]] == ["there"]


def test_unknown_owners_and_metrics_are_not_found(metered: Api) -> None:
    assert metered.code(404, "POST", "/subscriptions/none/alerts", body()) == "subscription_not_found"
    unknown = body("billable_metric_current_usage_units", billable_metric_code="none")
    assert metered.code(404, "POST", SUB, unknown) == "billable_metric_not_found"
    assert metered.code(400, "POST", SUB, {"alerts": []}) is None


WALLET = "/customers/cus/wallets/main/alerts"


def low(code: str, alert_type: str, *values: int) -> Any:
    steps = [{"code": f"t{value}", "value": value} for value in values]
    return {"code": code, "alert_type": alert_type, "thresholds": steps}


def test_alerts_of_a_wallet_begin_with_what_it_has_and_fire_when_it_falls(metered: Api) -> None:
    wallet = {
        "external_customer_id": "cus",
        "code": "main",
        "currency": "EUR",
        "rate_amount": "2",
        "granted_credits": "50",
    }
    made = metered.post("/wallets", {"wallet": wallet})["wallet"]
    money, credits_ = (
        low("money", "wallet_balance_amount", 8_000),
        low("credits", "wallet_credits_balance", 30, 20),
    )
    shown = metered.post(WALLET, {"alerts": [money, credits_]})["alerts"]
    assert [(each["previous_value"], each["direction"], each["wallet_code"]) for each in shown] == [
        ("10000.0", "decreasing", "main"),
        ("50.0", "decreasing", "main"),
    ]
    assert metered.details("POST", WALLET, {"alert": low("x", "current_usage_amount", 1)}) == {
        "alert_type": ["invalid_type"]
    }
    move = {"wallet_id": made["lago_id"], "voided_credits": "20"}
    metered.post("/wallet_transactions", {"wallet_transaction": move})
    assert fired(metered) == []
    metered.conn.rollback()
    owner = AlertOwner(wallet_id=UUID(made["lago_id"]))
    found = store.newest_firings(metered.conn, metered.organization.id, owner, limit=9)
    assert sorted((each.alert_code, each.previous_value, each.current_value) for each in found) == [
        ("credits", Decimal(50), Decimal(30)),
        ("money", Decimal(10_000), Decimal(6_000)),
    ]
    assert {each.external_customer_id for each in found} == {"cus"}
    assert metered.code(404, "GET", "/customers/cus/wallets/none/alerts") == "wallet_not_found"
    assert metered.code(404, "GET", "/customers/none/wallets/main/alerts") == "customer_not_found"


def test_an_invoice_that_takes_what_was_usage_sets_off_no_alert_of_the_ongoing_balance(
    metered: Api, send: Sender
) -> None:
    wallet = {"external_customer_id": "cus", "code": "main", "currency": "EUR", "rate_amount": "1"}
    made = metered.post("/wallets", {"wallet": {**wallet, "granted_credits": "40"}})["wallet"]
    ongoing, balance = (
        low("ongoing", "wallet_ongoing_balance_amount", 1_500),
        low("balance", "wallet_balance_amount", 2_100),
    )
    metered.post(WALLET, {"alerts": [ongoing, balance]})
    send(code="calls", tokens=20)
    metered.put("/test_clock", {"test_clock": {"now": "2024-04-02T00:00:00Z"}})
    metered.conn.rollback()
    owner = AlertOwner(wallet_id=UUID(made["lago_id"]))
    found = store.newest_firings(metered.conn, metered.organization.id, owner, limit=9)
    assert [(each.alert_code, each.current_value) for each in found] == [("balance", Decimal(2_000))]


def test_twenty_looks_at_once_fire_an_alert_once(metered: Api, dsn: str, send: Sender) -> None:
    metered.post(SUB, body("current_usage_amount", 300, 700))
    send(code="calls", tokens=8)

    def look(_: int) -> None:
        with pool.connection() as conn:
            store.mark(conn, {(metered.organization.id, "sub")})
        with pool.connection() as conn:
            alerts.look(conn, metered.organization.id, now=START, system_now=datetime.now(UTC))

    with open_pool(dsn, size=20, name="looks") as pool, ThreadPoolExecutor(20) as threads:
        list(threads.map(look, range(20)))
    (firing,) = firings(metered)
    assert [each.value for each in firing.crossed_thresholds] == [300, 700]
