"""One organization with an object of every kind that is built, for clients that read and write all of them."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.live import move_clock

World = dict[str, str]
"""Ids by what they are of, with the API key and the server's address."""

NOW = "2026-10-01T00:00:00Z"


def plan(code: str, **fields: Any) -> dict[str, Any]:
    common = {"name": code, "code": code, "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    return {"plan": {**common, "pay_in_advance": False, **fields}}


def event(transaction_id: str, code: str, subscription: str, **properties: Any) -> dict[str, Any]:
    sent = {"transaction_id": transaction_id, "code": code, "external_subscription_id": subscription}
    return {"event": {**sent, "timestamp": "2026-10-05T12:00:00Z", "properties": properties}}


def make_world(client: httpx2.Client, url: str, key: str) -> World:
    """Usage, final invoices, drafts, a fee on no invoice, a credit note, and what they come from."""

    def sent(method: str, path: str, body: Any = None) -> Any:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def metric(code: str, **fields: Any) -> str:
        body = {"billable_metric": {"name": code, "code": code, **fields}}
        return sent("POST", "/billable_metrics", body)["billable_metric"]["lago_id"]

    world = {"url": url, "key": key}
    dimensions = [{"key": "model", "values": ["8K", "32K"]}]
    summed = {"aggregation_type": "sum_agg", "field_name": "tokens", "filters": dimensions}
    world["metric"], calls = metric("tokens", **summed), metric("calls", aggregation_type="count_agg")
    metric("spare", aggregation_type="count_agg")
    sent("POST", "/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
    tokens = {
        "billable_metric_id": world["metric"],
        "code": "tokens",
        "charge_model": "standard",
        "properties": {"amount": "0.5", "pricing_group_keys": ["user"]},
        "filters": [{"values": {"model": ["8K"]}, "properties": {"amount": "1"}}],
    }
    alone = {
        "billable_metric_id": calls,
        "code": "calls",
        "charge_model": "standard",
        "properties": {"amount": "1"},
        "pay_in_advance": True,
        "invoiceable": False,
    }
    seat = {"name": "Seat", "code": "seat", "amount_cents": 500, "amount_currency": "USD"}
    sent("POST", "/add_ons", {"add_on": seat})
    seats = {
        "add_on_code": "seat",
        "code": "seats",
        "charge_model": "standard",
        "properties": {"amount": "2"},
    }
    main = plan("main", charges=[tokens, alone], fixed_charges=[seats], metadata={"a": "b"})
    made = sent("POST", "/plans", main)["plan"]
    world["filter"] = made["charges"][0]["filters"][0]["lago_id"]
    sent("POST", "/plans", plan("paid", amount_cents=3_000, pay_in_advance=True))
    sent("POST", "/customers", {"customer": {"external_id": "c", "currency": "USD", "tax_codes": ["vat"]}})
    grace = {"external_id": "grace", "currency": "USD", "billing_configuration": {"invoice_grace_period": 9}}
    sent("POST", "/customers", {"customer": grace})
    sent("POST", "/customers", {"customer": {**grace, "external_id": "idle"}})
    subscribed = (
        ("s", "c", "main"),
        ("waits", "grace", "main"),
        ("paid", "c", "paid"),
        ("idle", "idle", "main"),
    )
    for name, customer, code in subscribed:
        given = {"external_id": name, "external_customer_id": customer, "plan_code": code}
        sent("POST", "/subscriptions", {"subscription": given})
    move_clock(client, "2026-10-06T00:00:00Z")
    for name in ("s", "waits"):
        sent("POST", "/events", event(f"tokens {name}", "tokens", name, model="8K", tokens=7, user="u"))
        sent("POST", "/events", event(f"more {name}", "tokens", name, model="32K", tokens=5, user="v"))
        sent("POST", "/events", event(f"call {name}", "calls", name))
    move_clock(client, "2026-10-10T00:00:00Z")
    sent("DELETE", "/subscriptions/paid")
    move_clock(client, "2026-11-02T00:00:00Z")
    invoices = {
        (each["status"], each["customer"]["external_id"]): each["lago_id"]
        for each in sent("GET", "/invoices?invoice_type[]=subscription")["invoices"]
    }
    world["invoice"], world["draft"] = invoices["finalized", "c"], invoices["draft", "grace"]
    world["idle_draft"] = invoices["draft", "idle"]
    add_on = {"name": "sold", "code": "sold", "amount_cents": 1_000, "amount_currency": "USD"}
    sent("POST", "/add_ons", {"add_on": add_on})
    one_off = {"external_customer_id": "c", "currency": "USD", "fees": [{"add_on_code": "sold"}]}
    for name in ("one_off", "voided", "voided_too"):
        made = sent("POST", "/invoices", {"invoice": one_off})["invoice"]
        world[name], world[f"{name}_fee"] = made["lago_id"], made["fees"][0]["lago_id"]
    fees = [each for each in sent("GET", "/fees")["fees"] if each["lago_invoice_id"] is None]
    world["fee"], world["other_fee"] = (each["lago_id"] for each in fees)
    world["credit_note"] = sent("GET", "/credit_notes")["credit_notes"][0]["lago_id"]
    endpoint = {"webhook_endpoint": {"webhook_url": "https://a.test/hook"}}
    world["endpoint"] = sent("POST", "/webhook_endpoints", endpoint)["webhook_endpoint"]["lago_id"]
    return world
