"""Lago's own Python client, unmodified, drives the seed's story against a real server."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx2
import pytest
from lago_python_client.client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import (
    BatchEvent,
    BillableMetric,
    Charge,
    Customer,
    Event,
    Plan,
    Subscription,
)
from lago_python_client.models.billable_metric import BillableMetricFilter, BillableMetricFilters
from lago_python_client.models.charge import ChargeFilter, ChargeFilters
from lago_python_client.models.plan import Charges

from tests.live import LiveServer, move_clock

PRICES = {
    ("8K", "input"): "0.03",
    ("8K", "output"): "0.06",
    ("32K", "input"): "0.06",
    ("32K", "output"): "0.12",
}


@pytest.fixture
def account(server: LiveServer) -> tuple[Client, httpx2.Client]:
    """Lago's client, and a plain one for what is ours (the test clock)."""
    organization = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")
    key = organization["api_key"]
    return Client(api_key=key, api_url=server.url), server.client(key)


def make_metric(client: Client) -> str:
    metric = client.billable_metrics.create(
        BillableMetric(
            name="GPT-4 tokens",
            code="gpt_4_tokens",
            aggregation_type="sum_agg",
            field_name="tokens",
            recurring=False,
            filters=BillableMetricFilters(
                __root__=[
                    BillableMetricFilter(key="model", values=["8K", "32K"]),
                    BillableMetricFilter(key="type", values=["input", "output"]),
                ]
            ),
        )
    )
    assert metric.aggregation_type == "sum_agg"
    return metric.lago_id


def package(amount: str) -> dict[str, Any]:
    return {"amount": amount, "free_units": 0, "package_size": 1000}


def make_plan(client: Client, metric_id: str) -> None:
    filters = [
        ChargeFilter(
            invoice_display_name=f"{model} {kind}",
            properties=package(price),
            values={"model": [model], "type": [kind]},
        )
        for (model, kind), price in PRICES.items()
    ]
    charge = Charge(
        billable_metric_id=metric_id,
        charge_model="package",
        properties=package("0"),
        filters=ChargeFilters(__root__=filters),
    )
    plan = client.plans.create(
        Plan(
            name="GPT-4",
            code="gpt_4",
            interval="monthly",
            amount_cents=0,
            amount_currency="USD",
            pay_in_advance=False,
            charges=Charges(__root__=[charge]),
        )
    )
    assert len(plan.charges.__root__[0].filters.__root__) == 4


def event(number: int, model: str, kind: str, tokens: int) -> Event:
    return Event(
        transaction_id=f"tx-{number}",
        external_subscription_id="acme-gpt4",
        code="gpt_4_tokens",
        timestamp=int(datetime.fromisoformat("2026-10-05T12:00:00+00:00").timestamp()),
        properties={"model": model, "type": kind, "tokens": tokens},
    )


def test_from_the_metric_to_the_invoice(account: tuple[Client, httpx2.Client]) -> None:
    client, plain = account
    make_plan(client, make_metric(client))
    assert client.customers.create(Customer(external_id="acme", name="Acme", currency="USD")).lago_id
    subscription = client.subscriptions.create(
        Subscription(external_customer_id="acme", plan_code="gpt_4", external_id="acme-gpt4")
    )
    assert subscription.status == "active"
    move_clock(plain, "2026-10-06T00:00:00Z")

    sent = client.events.create(event(1, "8K", "input", 1_234))
    assert sent is not None
    assert sent.timestamp == "2026-10-05T12:00:00.000Z"
    client.events.batch_create(
        BatchEvent(events=[event(2, "8K", "output", 999), event(3, "32K", "input", 10_000)])
    )
    with pytest.raises(LagoApiError) as refused:
        client.events.create(event(1, "8K", "input", 1_234))
    assert refused.value.status_code == 422
    assert client.events.find("tx-3").properties == {"model": "32K", "type": "input", "tokens": 10_000}

    usage = client.customers.current_usage("acme", "acme-gpt4")
    assert usage.amount_cents == 6 + 6 + 60
    (charge,) = usage.charges_usage
    assert charge.units == "12233.0"
    shown = {row.invoice_display_name: row.amount_cents for row in charge.filters if row.values}
    assert shown == {"8K input": 6, "8K output": 6, "32K input": 60, "32K output": 0}

    move_clock(plain, "2026-11-01T00:00:00Z")
    invoices = client.invoices.find_all({"external_customer_id": "acme"})["invoices"]
    assert [invoice.total_amount_cents for invoice in invoices] == [72]
    invoice = client.invoices.find(invoices[0].lago_id)
    charged = [fee.amount_cents for fee in invoice.fees.__root__ if fee.item.type == "charge"]
    assert sorted(charged) == [6, 6, 60]
    assert client.customers.current_usage("acme", "acme-gpt4").amount_cents == 0


def test_lists_and_lifecycle(account: tuple[Client, httpx2.Client]) -> None:
    client, _ = account
    make_plan(client, make_metric(client))
    client.customers.create(Customer(external_id="acme", name="Acme", currency="USD"))
    client.subscriptions.create(
        Subscription(external_customer_id="acme", plan_code="gpt_4", external_id="acme-gpt4")
    )
    assert [plan.code for plan in client.plans.find_all()["plans"]] == ["gpt_4"]
    assert [metric.code for metric in client.billable_metrics.find_all()["billable_metrics"]] == [
        "gpt_4_tokens"
    ]
    assert client.customers.find("acme").external_id == "acme"
    assert client.subscriptions.update(Subscription(name="renamed"), "acme-gpt4").name == "renamed"
    assert client.subscriptions.destroy("acme-gpt4").status == "terminated"
    with pytest.raises(LagoApiError) as missing:
        client.plans.find("nothing")
    assert missing.value.status_code == 404
