"""A plan and a metric have no more than can be read whole, through whatever door they grow."""

from __future__ import annotations

from typing import Any

import pytest

from permille.api import billable_metrics
from permille.core.contract import plan as plan_module
from permille.store import plans

from .conftest import Api, charge, plan_body

TOO_MANY = {"charges": ["too_many_prices"]}


def filters(*values: str) -> list[dict[str, Any]]:
    return [{"values": {"model": [value]}, "properties": {"amount": "2"}} for value in values]


def test_a_plan_has_a_number_of_charges_and_filters(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "PLAN_PRICES_MAX", 3)
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b", "c"]}])
    three = charge(metric, filters=filters("a", "b", "c"))
    assert api.details("POST", "/plans", {"plan": plan_body("large", [three])}) == TOO_MANY
    api.plan("pro", [charge(metric, code="one", filters=filters("a", "b"))])
    api.customer()
    more = charge(metric, code="two")
    assert api.details("POST", "/plans/pro/charges", {"charge": more}) == TOO_MANY
    body = {"filter": filters("c")[0]}
    assert api.details("POST", "/plans/pro/charges/one/filters", body) == TOO_MANY
    assert api.details("PUT", "/plans/pro/charges/one", {"charge": three}) == TOO_MANY
    assert api.details("PUT", "/plans/pro/charges/one", {"charge": three, "dry_run": True}) == TOO_MANY
    (own,) = api.get("/plans/pro/charges")["charges"]
    overrides = {"charges": [{"id": own["lago_id"], "filters": filters("a", "b", "c")}]}
    sent = {
        "external_customer_id": "cus",
        "plan_code": "pro",
        "external_id": "s",
        "plan_overrides": overrides,
    }
    assert api.details("POST", "/subscriptions", {"subscription": sent}) == TOO_MANY
    api.subscribe()
    assert (
        api.details("PUT", "/subscriptions/sub", {"subscription": {"plan_overrides": overrides}}) == TOO_MANY
    )
    assert (
        api.details("PUT", "/subscriptions/sub/charges/one", {"charge": {"filters": filters("a", "b", "c")}})
        == TOO_MANY
    )
    # One that is larger, from a time before the bound, is edited and grows no further.
    monkeypatch.setattr(plan_module, "PLAN_PRICES_MAX", 2)
    api.put("/plans/pro/charges/one", {"charge": {"invoice_display_name": "d"}})
    assert api.details("POST", "/plans/pro/charges", {"charge": more}) == TOO_MANY


def test_earlier_prices_of_a_plan_count(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "PLAN_PRICES_KEPT_MAX", 4)
    metric = api.metric()
    api.plan("pro", [charge(metric, code="one")])
    api.customer()
    api.subscribe()
    for amount, day in (("2", "2024-04-01"), ("3", "2024-05-01")):
        body = {"charge": {"properties": {"amount": amount}}, "effective_at": f"{day}T00:00:00Z"}
        api.put("/plans/pro/charges/one", body)
    body = {"charge": {"properties": {"amount": "4"}}, "effective_at": "2024-06-01T00:00:00Z"}
    assert api.details("PUT", "/plans/pro/charges/one", body) == TOO_MANY


def test_a_metric_has_a_number_of_values(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billable_metrics, "METRIC_VALUES_MAX", 3)
    listed = [{"key": key, "values": ["x", "y"]} for key in ("a", "b")]
    body = {"name": "m", "code": "m", "aggregation_type": "count_agg", "filters": listed}
    assert api.details("POST", "/billable_metrics", {"billable_metric": body}) == {
        "values": ["too_many_values"]
    }
    api.metric("m", filters=listed[:1])
    assert api.details("PUT", "/billable_metrics/m", {"billable_metric": {"filters": listed}}) == {
        "values": ["too_many_values"]
    }


def test_the_values_of_a_metric_are_read_once_a_plan(api: Api) -> None:
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b", "c"]}])
    api.plan("pro", [charge(metric, code=code) for code in ("one", "two")])
    found = plans.plan_by_code(api.conn, api.organization.id, "pro")
    assert found is not None
    one, two = found.charges
    assert one.metric is two.metric
    assert one.metric.filters == {"model": ("a", "b", "c")}
