"""A page of a list is no larger than what its objects have in them allows; one of them is always shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from permille.store import page_sizes

from .conftest import Api, charge
from .contract import whole_document
from .test_payments import move

TOO_LARGE = {"per_page": ["page_is_too_large"]}


def plans(api: Api) -> None:
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])
    for code in ("one", "two"):
        filters = [{"values": {"model": [each]}, "properties": {"amount": "2"}} for each in "ab"]
        api.plan(code, [charge(metric, filters=filters)])


def metrics(api: Api) -> None:
    for code in ("one", "two"):
        api.metric(code, filters=[{"key": "model", "values": ["a", "b", "c"]}])


def features(api: Api) -> None:
    for code in ("one", "two"):
        options = {"select_options": ["a", "b"]}
        privilege = {"code": "p", "value_type": "select", "config": options}
        api.post("/features", {"feature": {"code": code, "privileges": [privilege]}})


def coupons(api: Api) -> None:
    for code in ("a", "b", "c"):
        api.plan(code)
    for code in ("one", "two"):
        coupon = {
            "name": code,
            "code": code,
            "coupon_type": "fixed_amount",
            "amount_cents": 100,
            "amount_currency": "USD",
            "frequency": "once",
            "expiration": "no_expiration",
            "applies_to": {"plan_codes": ["a", "b", "c"]},
        }
        api.post("/coupons", {"coupon": coupon})


def invoiced(api: Api) -> Callable[[], Any]:
    """What makes invoices with three fees."""
    api.customer(currency="USD", net_payment_term=1)
    add_on = {"name": "a", "code": "a", "amount_cents": 500, "amount_currency": "USD"}
    api.post("/add_ons", {"add_on": add_on})
    sold = {"external_customer_id": "cus", "currency": "USD", "fees": [{"add_on_code": "a"}] * 3}
    return lambda: api.post("/invoices", {"invoice": sold})["invoice"]


def credit_notes(api: Api) -> None:
    invoice = invoiced(api)()
    items = [{"fee_id": fee["lago_id"], "amount_cents": 10} for fee in invoice["fees"]]
    note = {"invoice_id": invoice["lago_id"], "items": items, "offset_amount_cents": 30}
    for _ in range(2):
        api.post("/credit_notes", {"credit_note": note})


def payment_requests(api: Api) -> None:
    make = invoiced(api)
    ids = [make()["lago_id"] for _ in range(3)]
    move(api, 2024, 3, 7)
    request = {"external_customer_id": "cus", "lago_invoice_ids": ids}
    for _ in range(2):
        api.post("/payment_requests", {"payment_request": request})


BOUNDED: dict[str, Callable[[Api], None]] = {
    "/plans": plans,
    "/billable_metrics": metrics,
    "/features": features,
    "/coupons": coupons,
    "/credit_notes": credit_notes,
    "/payment_requests": payment_requests,
}


@pytest.mark.parametrize("path", BOUNDED)
def test_a_page_is_bounded_by_what_its_objects_have(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    BOUNDED[path](api)
    name = path.removeprefix("/")
    whole = api.get(path)[name]
    assert len(whole) >= 2
    monkeypatch.setattr(page_sizes, "PAGE_CHILDREN_MAX", 5)
    assert api.details("GET", path, None) == TOO_LARGE
    monkeypatch.setattr(page_sizes, "PAGE_CHILDREN_MAX", 6)
    assert api.get(path)[name] == whole
    monkeypatch.setattr(page_sizes, "PAGE_CHILDREN_MAX", 0)
    assert api.get(path, per_page=1)[name] == whole[:1]


COUNTED = {key.removeprefix("/") for key in BOUNDED}
FEW = {
    "events": "an event has 262,144 characters at most",
    "amendments": "notes for the invoices of one event",
    "usage_periods": "billed periods are kept whole",
    "daily_usage": "days of one subscription, 366 on a page",
    "customers": "5 entries of metadata, and taxes",
    "alerts": "one metric's values, of one subscription or wallet",
    "held_usage_groups": "models of one group",
    "intakes": "codes of an intake",
    "catalogue_versions": "outliers that somebody has accepted",
    "recent_usages": "the last usages alone are kept",
    "models": "prices of a model, of one read of all",
    "margins": "names of what has no cost",
    "totals": "names of what has no cost",
    "subscriptions": "their plans are not shown in lists",
    "charges": "of one plan, which has 10,000 prices at most",
    "fixed_charges": "of one plan",
    "filters": "of one charge",
    "invoices": "fees are not shown in lists",
    "fees": "groups of one fee",
    "fee_explanation": "a page of events",
    "payments": "invoices of one payment",
    "payment_receipts": "invoices of one payment",
    "dunning_campaigns": "a threshold for each currency",
    "applied_coupons": "one credit an invoice",
    "wallets": "rules and targets of a wallet",
    "wallet_transactions": "50 notes",
    "wallet_transaction_consumptions": "50 notes",
    "wallet_transaction_fundings": "50 notes",
    "late_usage": "lines of one charge",
    "add_ons": "taxes",
    "taxes": "billing entities",
    "webhook_endpoints": "kinds of webhooks, of 10 endpoints",
    "activity_logs": "fields of one object",
}
"""Lists whose objects have lists in them that nothing counts, and why that is enough."""


def test_every_list_of_objects_with_lists_in_them_is_counted_or_known_to_be_small() -> None:
    lists = set(_lists_of_lists())
    assert {"plans", "credit_notes"} <= lists
    assert lists - COUNTED == FEW.keys()


def _lists_of_lists() -> Iterator[str]:
    """The keys of the paged lists of the API whose objects have lists or maps in them."""
    schemas = whole_document()["components"]["schemas"]

    def resolved(schema: Any) -> Any:
        return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def is_nested(schema: Any, depth: int, seen: tuple[str, ...]) -> bool:
        if schema.get("$ref") in seen:
            return False
        seen, found = (*seen, schema.get("$ref", "")), resolved(schema)
        depth += "items" in found or isinstance(found.get("additionalProperties"), dict)
        inner = [*found.get("properties", {}).values(), *found.get("anyOf", ()), *found.get("allOf", ())]
        inner += [found["items"]] if "items" in found else []
        return depth > 1 or any(is_nested(each, depth, seen) for each in inner)

    for operations in whole_document()["paths"].values():
        asked = operations.get("get")
        if asked and "per_page" in [resolved(each)["name"] for each in asked.get("parameters", ())]:
            content = asked["responses"]["200"]["content"]
            if "application/json" in content:
                answer = resolved(content["application/json"]["schema"])
                for key, schema in answer["properties"].items():
                    if is_nested(schema, 0, ()):
                        yield key
