"""Figures by month, against invoices whose amounts are known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import Api, charge
from tests.api.test_amendments import Sender, send
from tests.api.test_usage import move

__all__ = ["send"]


@pytest.fixture
def billed(api: Api, send: Sender) -> Api:
    """Until June: 31.00 a month in arrears with usage in March and April; 120.00 a year in advance from 5 March."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    api.plan("monthly", [charge(api.metric())], amount_cents=3_100)
    api.plan("yearly", amount_cents=12_000, interval="yearly", pay_in_advance=True)
    api.customer(country="FR", net_payment_term=5)
    api.subscribe("sub", plan="monthly", billing_time="anniversary")
    api.subscribe("year", plan="yearly", billing_time="anniversary")
    send(tokens=7)
    move(api, 2024, 4, 6)
    send(datetime(2024, 4, 5, 12, tzinfo=UTC), tokens=2)
    move(api, 2024, 6, 20)
    return api


def figures(api: Api, name: str, root: str, *fields: str, **query: Any) -> list[Any]:
    found = api.get(f"/analytics/{name}", **query)[root]
    return [(each["month"][:7], *(each[field] for field in fields)) for each in found]


def test_what_was_billed_and_how_far_it_is_paid(billed: Api) -> None:
    assert figures(billed, "gross_revenue", "gross_revenues", "amount_cents", "invoices_count") == [
        ("2024-03", 12_000, 1),
        ("2024-04", 3_800, 1),
        ("2024-05", 3_300, 1),
        ("2024-06", 3_100, 1),
    ]
    assert figures(billed, "gross_revenue", "gross_revenues", "amount_cents", months=1) == [
        ("2024-06", 3_100)
    ]
    assert figures(billed, "gross_revenue", "gross_revenues", "currency", external_customer_id="none") == []
    assert figures(billed, "gross_revenue", "gross_revenues", "currency", currency="USD") == []
    (invoice,) = billed.get("/invoices", issuing_date_from="2024-06-01")["invoices"]
    billed.put(f"/invoices/{invoice['lago_id']}", {"invoice": {"payment_status": "succeeded"}})
    collected = figures(
        billed, "invoice_collection", "invoice_collections", "payment_status", "amount_cents", months=2
    )
    assert collected == [("2024-05", "pending", 3_960), ("2024-06", "succeeded", 3_720)]


def test_a_yearly_fee_is_spread_over_its_months(billed: Api) -> None:
    assert figures(billed, "mrr", "mrrs", "amount_cents", months=4) == [
        ("2024-03", 1_000),
        ("2024-04", 4_100),
        ("2024-05", 4_100),
        ("2024-06", 4_100),
    ]


def test_a_year_that_is_cut_is_spread_over_the_months_that_it_has(api: Api) -> None:
    api.plan("yearly", amount_cents=36_500, interval="yearly", pay_in_advance=True)
    api.plan("quarterly", amount_cents=9_200, interval="quarterly")
    api.customer()
    move(api, 2024, 11, 5)
    api.subscribe("year", plan="yearly")
    api.subscribe("quarter", plan="quarterly")
    move(api, 2025, 2, 1)
    # 57 of 366 days are 5,684 for two months, and 57 of 92 days 5,700.
    assert figures(api, "mrr", "mrrs", "amount_cents", months=4) == [
        ("2024-11", 5_692),
        ("2024-12", 5_692),
        ("2025-01", 3_042),
        ("2025-02", 3_042),
    ]


def test_usage_by_metric(billed: Api) -> None:
    assert figures(billed, "invoiced_usage", "invoiced_usages", "code", "amount_cents") == [
        ("2024-04", "tokens", 700),
        ("2024-05", "tokens", 200),
    ]
    (april, *_) = billed.get("/analytics/usage", time_granularity="monthly", customer_country="fr")["usages"]
    assert (april["start_of_period_dt"], april["end_of_period_dt"]) == ("2024-04-01", "2024-04-30")
    assert (april["amount_cents"], april["units"], april["billable_metric_code"]) == (700, "7.0", "tokens")
    for query in (
        {"plan_code": "yearly"},
        {"is_billable_metric_recurring": "true"},
        {"to_date": "2024-03-31"},
    ):
        assert billed.get("/analytics/usage", **query)["usages"] == []


def test_usage_counts_once_where_a_threshold_billed_it_first(api: Api, send: Sender) -> None:
    tokens = charge(api.metric(), properties={"amount": "1"}, min_amount_cents=2_500)
    api.plan("limited", [tokens], usage_thresholds=[{"amount_cents": 1_000}])
    api.customer()
    api.subscribe("sub", plan="limited", subscription_at="2024-03-01T00:00:00Z")
    send(tokens=15)
    move(api, 2024, 3, 20)
    send(datetime(2024, 3, 20, tzinfo=UTC), tokens=3)
    move(api, 2024, 4, 2)
    made = [each["invoice_type"] for each in api.get("/invoices")["invoices"]]
    assert sorted(made) == ["progressive_billing", "subscription"]
    assert figures(api, "invoiced_usage", "invoiced_usages", "amount_cents") == [("2024-04", 2_500)]
    (used,) = api.get("/analytics/usage")["usages"]
    assert (used["amount_cents"], used["units"]) == (2_500, "18.0"), "what lacks to the minimum is no unit"


def test_a_top_up_is_collected_and_is_no_revenue(api: Api) -> None:
    api.customer(currency="EUR")
    wallet = {"external_customer_id": "cus", "currency": "EUR", "rate_amount": "2", "paid_credits": "10"}
    api.post("/wallets", {"wallet": wallet})
    move(api, 2024, 3, 6)
    collected = figures(api, "invoice_collection", "invoice_collections", "amount_cents", "invoices_count")
    assert collected == [("2024-03", 2_000, 1)]
    assert figures(api, "gross_revenue", "gross_revenues", "amount_cents") == []


def test_what_is_overdue(billed: Api) -> None:
    found = billed.get("/analytics/overdue_balance", months=4)["overdue_balances"]
    assert [(each["month"][:7], each["amount_cents"], len(each["lago_invoice_ids"])) for each in found] == [
        ("2024-03", 14_400, 1),
        ("2024-04", 4_560, 1),
        ("2024-05", 3_960, 1),
        ("2024-06", 3_720, 1),
    ]


@pytest.mark.parametrize(
    ("name", "query", "field"),
    [
        ("mrr", {"months": "0"}, "months"),
        ("mrr", {"months": "many"}, "months"),
        ("gross_revenue", {"currency": "gold"}, "currency"),
        ("usage", {"time_granularity": "hourly"}, "time_granularity"),
        ("usage", {"from_date": "2024-05-01", "to_date": "2024-04-01"}, "from_date"),
        ("usage", {"from_date": "then"}, "from_date"),
        ("usage", {"currency": "gold"}, "currency"),
    ],
)
def test_what_cannot_be_is_refused_by_name(api: Api, name: str, query: Any, field: str) -> None:
    assert list(api.details("GET", f"/analytics/{name}", None, **query)) == [field]


def test_a_sum_that_no_amount_can_be_is_refused_by_name(api: Api) -> None:
    api.post(
        "/add_ons",
        {"add_on": {"name": "a", "code": "a", "amount_cents": 5 * 10**18, "amount_currency": "EUR"}},
    )
    api.customer(net_payment_term=0)
    sold = {"invoice": {"external_customer_id": "cus", "currency": "EUR", "fees": [{"add_on_code": "a"}]}}
    ids = [api.post("/invoices", sold)["invoice"]["lago_id"] for _ in range(2)]
    move(api, 2024, 3, 8)
    wanted = {"payment_request": {"external_customer_id": "cus", "lago_invoice_ids": ids}}
    assert api.details("POST", "/payment_requests", wanted) == {"base": ["amount_out_of_range"]}
    for name in ("gross_revenue", "overdue_balance", "invoice_collection"):
        assert api.details("GET", f"/analytics/{name}", None) == {"base": ["amount_out_of_range"]}
