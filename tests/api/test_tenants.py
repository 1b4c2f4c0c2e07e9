"""Organizations by construction: a stranger calls every route with every identifier of another organization.

A new route is in this walk by itself; one with a new kind of identifier makes the test say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from permille.api.routes import ENDPOINTS
from permille.core.instants import microseconds
from permille.core.llm.call import SentCall
from permille.core.record import replace
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases import llm_usages, unknown_models
from tests.core.llm.samples import sent, usages
from tests.late import review_late_usage

from .conftest import START, Api, Server, charge

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
CANDIDATES_MAX = 8
COLLECTIONS = {
    "subscriptions": "/plans+subscriptions",
    "customers": "/customers+alerts",
}
"""Collections whose paths have identifiers of another one too."""
ALERT = {
    "alert": {
        "alert_type": "lifetime_usage_amount",
        "code": "pro",
        "thresholds": [{"value": 1, "code": "one"}],
    }
}
NAMED = {"key": "team", "wallet_code": "main"}
"""What no list has as an identifier."""
BODIES: dict[str, Any] = {
    "/llm": {
        "held_usage": {"external_subscription_id": "sub-2"},
        "payer_rule": {"field": "team", "value": "taken", "external_customer_id": "cus"},
        "model_alias": {"name": "azure/chat", "model": "azure/gpt-4o"},
        "intake": {"format": "openmeter"},
    },
    "/test_clock": {"test_clock": {"now": "2024-06-01T00:00:00Z"}},
    "/billing_entities": {"billing_entity": {"name": "Taken over"}},
    "/billable_metrics": {"billable_metric": {"name": "Taken over"}},
    "/add_ons": {"add_on": {"name": "Taken over", "amount_cents": 99}},
    "/invoice_custom_sections": {"invoice_custom_section": {"name": "Taken over"}},
    "/coupons": {"coupon": {"name": "Taken over"}},
    "/applied_coupons": {"applied_coupon": {"external_customer_id": "cus", "coupon_code": "off"}},
    "/taxes": {"tax": {"name": "Taken over", "rate": "99"}},
    "/pricing_units": {"pricing_unit": {"name": "Taken over"}},
    "/plans": {"plan": {"name": "Taken over", "amount_cents": 99}},
    "/wallets": {"wallet": {"name": "Taken over"}},
    "/wallet_transactions": {"wallet_transaction": {"granted_credits": "1"}},
    "/customers": {"customer": {"external_id": "cus", "name": "Taken over"}},
    "/subscriptions": {"subscription": {"name": "Taken over"}, **ALERT},
    "/invoices": {
        "invoice": {"payment_status": "succeeded", "metadata": [{"key": "k", "value": "Taken over"}]}
    },
    "/fees": {"fee": {"payment_status": "succeeded"}},
    "/dunning_campaigns": {"dunning_campaign": {"name": "Taken over"}},
    "/payments": {"payment": {"invoice_id": "", "amount_cents": 1, "reference": "Taken over"}},
    "/payment_requests": {"payment_request": {"external_customer_id": "cus", "lago_invoice_ids": [""]}},
    "/webhook_endpoints": {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/taken"}},
    "/features": {"feature": {"name": "Taken over"}},
}


def settle(api: Api, dsn: str) -> None:
    """Make an object of every kind."""
    tokens = api.metric("tokens", filters=[{"key": "model", "values": ["a", "b"]}])
    calls = api.metric("calls", aggregation_type="count_agg", field_name=None)
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    api.post("/pricing_units", {"pricing_unit": {"name": "Credit", "code": "credit", "short_name": "CR"}})
    api.post(
        "/add_ons",
        {"add_on": {"name": "Seat", "code": "seat", "amount_cents": 500, "amount_currency": "EUR"}},
    )
    filters = [{"values": {"model": ["a"]}, "properties": {"amount": "2"}}]
    charges = [
        charge(tokens, code="by_token", filters=filters),
        charge(calls, code="by_call", pay_in_advance=True),
    ]
    granted = {"feature": {"code": "seats", "privileges": [{"code": "max"}]}}
    api.post("/features", granted)
    seats = {"add_on_code": "seat", "charge_model": "standard", "units": 2, "properties": {"amount": "1"}}
    api.plan("pro", charges, amount_cents=3_100, pay_in_advance=True, fixed_charges=[seats])
    api.post("/plans/pro/entitlements", {"entitlements": {"seats": {"max": "5"}}})
    api.post("/plans/pro/metadata", {"metadata": {"team": "billing"}})
    api.customer("cus", name="Secret customer", metadata=[])
    tenth = {"coupon_type": "percentage", "percentage_rate": "10", "frequency": "forever"}
    api.post("/coupons", {"coupon": {"name": "Off", "code": "off", "expiration": "no_expiration", **tenth}})
    api.post("/applied_coupons", BODIES["/applied_coupons"])
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "code": "main"}
    api.post("/wallets", {"wallet": {**wallet, "granted_credits": "1", "metadata": {"team": "billing"}}})
    falls = {
        "alert_type": "wallet_balance_amount",
        "code": "low",
        "thresholds": [{"value": 1, "code": "one"}],
    }
    api.post("/customers/cus/wallets/main/alerts", {"alert": falls})
    api.subscribe("sub")
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/own"}})
    at = microseconds(START)
    drafts = [
        Draft(f"tx-{code}", code, "sub", at, None, {"model": "a", "tokens": 3})
        for code in ("tokens", "calls")
    ]
    _store(api, dsn, drafts)
    api.put("/test_clock", {"test_clock": {"now": "2024-04-02T00:00:00Z"}})
    api.delete("/subscriptions/sub", on_termination_credit_note="credit")
    api.subscribe("sub-2")
    api.post("/subscriptions/sub-2/alerts", ALERT)
    _store(
        api, dsn, [Draft("tx-late", "tokens", "sub", microseconds(START), None, {"model": "a", "tokens": 5})]
    )
    review_late_usage(dsn)
    _hold_usage(api, dsn)
    rule = {"field": "key", "value": "Secret customer", "external_customer_id": "cus"}
    api.post("/llm/payer_rules", {"payer_rule": rule})
    api.post("/llm/intakes", {"intake": {"format": "lago_agent"}})
    _pay(api)
    dearer = {"charge": {"properties": {"amount": "9"}}, "effective": "next_period"}
    api.put("/plans/pro/charges/by_token", dearer)


def _hold_usage(api: Api, dsn: str) -> None:
    """A usage of a language model that nobody is named for, one of an unknown model, and the alias of that."""
    api.post("/llm/model_aliases", {"model_alias": BODIES["/llm"]["model_alias"]})
    call = SentCall(
        usage=sent(usages()[0]),
        external_subscription_id=None,
        external_customer_id=None,
        at=datetime(2024, 4, 2, tzinfo=UTC),
        properties={"secret": "Secret customer"},
    )
    prepared = llm_usages.prepare(api.conn, api.organization.id, [call])
    llm_usages.hold(api.conn, api.organization.id, prepared, now=START)
    unknown = {"provider": "azure", "model": "chat", "model_raw": "chat", "quantity": "1"}
    _store(api, dsn, [Draft("tx-llm", "llm_tokens", "sub-2", microseconds(START), None, unknown)])
    counted = replace(prepared[0], identity="azure:tx-llm", unknown_models={"azure/chat": ["tx-llm"]})
    unknown_models.note(api.conn, api.organization.id, [counted])
    api.conn.commit()


def _pay(api: Api) -> None:
    """Request what is overdue, and pay a cent of it."""
    threshold = {"currency": "EUR", "amount_cents": 10**9}
    often = {"days_between_attempts": 3, "max_attempts": 2}
    campaign = {"code": "late", "name": "Late", "thresholds": [threshold], **often}
    api.post("/dunning_campaigns", {"dunning_campaign": campaign})
    text = {"code": "text", "name": "Text", "details": "Text"}
    api.post("/invoice_custom_sections", {"invoice_custom_section": text})
    (overdue, *_) = api.get("/invoices", payment_overdue="true")["invoices"]
    request = {"external_customer_id": "cus", "lago_invoice_ids": [overdue["lago_id"]]}
    api.post("/payment_requests", {"payment_request": request})
    payment = {"invoice_id": overdue["lago_id"], "amount_cents": 1, "reference": "ref"}
    api.post("/payments", {"payment": payment})


def _store(api: Api, dsn: str, drafts: list[Draft]) -> None:
    """Store events as the intake does."""
    with open_connection(dsn) as conn:
        store(conn, Memory(), [Request(api.organization.id, drafts, microseconds(START))])


def everything(api: Api) -> dict[str, Any]:
    """What the organization sees of itself: the answer of each list and of each object."""
    seen: dict[str, Any] = {}
    for method, path, _ in ENDPOINTS:
        if method != "GET" or PARAMETER.search(path):
            continue
        answer = api.call("GET", path)
        if answer.status_code == 200 and answer.headers["content-type"].startswith("application/json"):
            seen[path] = answer.json()
    wallets = [each["lago_id"] for each in seen["/wallets"]["wallets"]]
    seen["/wallet_transactions"] = [
        api.get(f"/wallets/{wallet}/wallet_transactions")["wallet_transactions"] for wallet in wallets
    ]
    answers = [
        api.call("GET", f"/customers/{each['external_customer_id']}/wallets/{each['code']}/alerts")
        for each in seen["/wallets"]["wallets"]
    ]
    alerts = [answer.json() for answer in answers if answer.status_code == 200]
    seen["/customers+alerts"] = [seen["/customers"], *alerts]
    seen["/llm"] = [answer for path, answer in seen.items() if path.startswith("/llm/")]
    seen["/plans+subscriptions"] = [seen["/plans"], seen["/subscriptions"]]
    return seen


IDENTIFIERS = {
    "lago_id": "lago_id",
    "filter_id": "lago_id",
    "code": "code",
    "charge_code": "code",
    "fixed_charge_code": "code",
    "external_id": "external_id",
    "transaction_id": "transaction_id",
    "activity_id": "activity_id",
    "request_id": "request_id",
    "feature_code": "code",
    "privilege_code": "code",
    "name": "name",
    "format": "format",
}
"""Parameter of a path -> the field of the objects that has it."""


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """All objects of an answer, at any depth."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for each in node:
            yield from objects(each)


def candidates(parameter: str, prefix: str, seen: dict[str, Any]) -> list[str]:
    """What the parameter after the prefix may be: identifiers of the objects that the prefix names."""
    if parameter in NAMED:
        return [NAMED[parameter]]
    first, last = prefix.split("/")[1], prefix.rsplit("/", 2)[-2]
    nearest = seen.get(prefix.removesuffix("/")) or seen.get(COLLECTIONS.get(first, "/" + first), {})
    found = list(objects(nearest))
    nested = [each[last] for each in found if last in each and last != first]
    values = {each.get(IDENTIFIERS[parameter]) for each in (objects(nested) if nested else found)}
    known = sorted(quote(value, safe="") for value in values if isinstance(value, str))
    assert known, f"settle() makes nothing for {prefix}{{{parameter}}}"
    return known[:CANDIDATES_MAX]


def paths(path: str, seen: dict[str, Any]) -> Iterator[str]:
    """The path with identifiers in place of its parameters, of several parameters each with each."""
    found = PARAMETER.search(path)
    if found is None:
        yield path
        return
    for value in candidates(found[1], path[: found.start()], seen):
        yield from paths(path[: found.start()] + value + path[found.end() :], seen)


@pytest.fixture
def settled(api: Api, server: Server) -> Api:
    server.engine.api_log.write(server.engine.pool)  # what other tests have left
    settle(api, server.dsn)
    server.engine.api_log.write(server.engine.pool)
    return api


def test_a_stranger_neither_sees_nor_changes_anything(settled: Api, stranger: Api) -> None:
    before = everything(settled)
    theirs = set(UUID.findall(repr(before))) - set(UUID.findall(repr(everything(stranger))))
    leaks, calls = [], 0
    for method, path, _ in ENDPOINTS:
        root = "/" + path.split("/")[1]
        for one in dict.fromkeys(paths(path, before)):
            answer = stranger.call(
                method, one, BODIES.get(root) if method in ("POST", "PUT", "PATCH") else None
            )
            calls += 1
            asked = set(UUID.findall(one))
            seen = {found for found in UUID.findall(answer.text) if found in theirs} - asked
            if answer.status_code >= 500 and answer.status_code != 501:
                leaks.append((method, one, answer.status_code))
            if seen or "Secret customer" in answer.text:
                leaks.append((method, one, sorted(seen)))
    assert leaks == []
    assert calls > len(ENDPOINTS)
    assert everything(settled) == before


FILTERS = {
    "external_customer_id": "cus",
    "external_subscription_id": "sub",
    "plan_code": "pro",
    "billable_metric_code": "tokens",
    "code": "tokens",
    "search_term": "Secret",
    "currency": "EUR",
}


def test_filters_of_lists_find_nothing_of_others(settled: Api, stranger: Api) -> None:
    before = everything(settled)
    theirs = set(UUID.findall(repr(before))) - set(UUID.findall(repr(everything(stranger))))
    for method, path, _ in ENDPOINTS:
        if method != "GET" or PARAMETER.search(path):
            continue
        for query in (FILTERS, *({name: value} for name, value in FILTERS.items())):
            answer = stranger.call("GET", path, **query)
            assert answer.status_code < 500, (path, query)
            assert not theirs & set(UUID.findall(answer.text)), (path, query)
