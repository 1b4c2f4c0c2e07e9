"""Requests at the same time: what is to be there once is there once, and nobody sees a 500."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import Api, charge, plan_body

AT_ONCE = 6


def together(*calls):
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


ALERT = {"alert_type": "lifetime_usage_amount", "code": "x", "thresholds": [{"value": 1, "code": "one"}]}
NAMED = {
    "/plans": {"plan": plan_body("x")},
    "/billable_metrics": {"billable_metric": {"name": "x", "code": "x", "aggregation_type": "count_agg"}},
    "/add_ons": {"add_on": {"name": "x", "code": "x", "amount_cents": 1, "amount_currency": "EUR"}},
    "/coupons": {
        "coupon": {
            "name": "x",
            "code": "x",
            "expiration": "no_expiration",
            "frequency": "once",
            "coupon_type": "percentage",
            "percentage_rate": "10",
        }
    },
    "/taxes": {"tax": {"name": "x", "code": "x", "rate": "1"}},
    "/pricing_units": {"pricing_unit": {"name": "x", "code": "x", "short_name": "x"}},
    "/billing_entities": {"billing_entity": {"name": "x", "code": "x"}},
    "/features": {"feature": {"code": "x"}},
    "/dunning_campaigns": {
        "dunning_campaign": {
            "name": "x",
            "code": "x",
            "days_between_attempts": 1,
            "max_attempts": 1,
            "thresholds": [{"currency": "EUR", "amount_cents": 1}],
        }
    },
    "/wallets": {
        "wallet": {"external_customer_id": "cus", "code": "x", "rate_amount": "1", "currency": "EUR"}
    },
    "/webhook_endpoints": {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/x"}},
    "/subscriptions/sub/alerts": {"alert": ALERT},
    "/plans/pro/entitlements": {"entitlements": {"seats": {}}},
    "/plans/pro/charges": {
        "charge": {"charge_model": "standard", "code": "x", "properties": {"amount": "1"}}
    },
}
"""What has a name that is taken once, by the address that adds it."""


@pytest.mark.parametrize("path", NAMED)
def test_a_name_is_taken_once(api: Api, path: str):
    metric = api.metric()
    api.post("/features", {"feature": {"code": "seats"}})
    api.plan()
    api.customer(currency="EUR")
    api.subscribe()
    body = NAMED[path]
    if path.endswith("/charges"):
        body = {"charge": {**body["charge"], "billable_metric_id": metric["lago_id"]}}
    answers = together(*[lambda: api.call("POST", path, body)] * AT_ONCE)
    statuses = sorted(answer.status_code for answer in answers)
    again_is_fine = path.endswith("/entitlements")
    assert statuses == ([200] * AT_ONCE if again_is_fine else [200] + [422] * (AT_ONCE - 1))


def test_wallets_without_a_code_get_one_each(api: Api):
    """The clock doesn't go on between them; and of invoices that aren't paid yet, none has a number."""
    api.customer(currency="EUR")
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "paid_credits": "2"}
    answers = together(*[lambda: api.post("/wallets", {"wallet": wallet})["wallet"]["code"]] * 4)
    assert len(set(answers)) == 4


def test_a_customer_is_made_once(api: Api):
    body = {"customer": {"external_id": "cus"}}
    answers = together(*[lambda: api.post("/customers", body)["customer"]["lago_id"]] * AT_ONCE)
    assert len(set(answers)) == 1
    assert api.get("/customers/cus")["customer"]["sequential_id"] == 1


def test_a_subscription_and_its_customer_are_made_once(api: Api):
    api.plan()
    answers = together(*[lambda: api.subscribe()["lago_id"]] * AT_ONCE)
    assert len(set(answers)) == 1
    assert api.get("/customers")["meta"]["total_count"] == 1


def test_a_code_is_taken_once(api: Api):
    body = {"plan": plan_body()}
    statuses = [
        answer.status_code for answer in together(*[lambda: api.call("POST", "/plans", body)] * AT_ONCE)
    ]
    assert sorted(statuses) == [200] + [422] * (AT_ONCE - 1)


def test_a_subscription_ends_once(api: Api):
    api.plan()
    api.subscribe()
    answers = together(*[lambda: api.call("DELETE", "/subscriptions/sub")] * AT_ONCE)
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * (AT_ONCE - 1)


def test_no_charge_survives_its_metric(api: Api):
    for turn in range(5):
        metric = api.metric(f"m{turn}")
        plan = {"plan": plan_body(f"p{turn}", [charge(metric)])}
        path = f"/billable_metrics/m{turn}"
        together(lambda plan=plan: api.call("POST", "/plans", plan), lambda path=path: api.delete(path))
        shown = api.call("GET", f"/plans/p{turn}")
        assert shown.status_code == 404 or shown.json()["plan"]["charges"] == []


def test_changes_of_one_plan_follow_each_other(api: Api):
    metric = api.metric()
    api.plan()

    def add(number: int):
        return api.post("/plans/pro/charges", {"charge": charge(metric, code=f"c{number}")})

    together(*[lambda number=number: add(number) for number in range(AT_ONCE)])
    codes = {entry["code"] for entry in api.get("/plans/pro")["plan"]["charges"]}
    assert codes == {f"c{number}" for number in range(AT_ONCE)}
