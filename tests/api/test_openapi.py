"""The OpenAPI document: valid, whole, described, and checked against what is really answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import httpx2
import pytest
from openapi_spec_validator import validate

from permille.api.routes import ADMIN, ADMIN_OPERATIONS, API, ENDPOINTS
from permille.api.webhooks import RENDERERS
from permille.app import INTAKE_PATHS
from permille.ingest.decoders import litellm, traces
from permille.store.webhooks import body_of
from tests.api.conftest import Api, charge
from tests.api.contract import problems, validator, whole_document

PARAMETER = re.compile(r"{(\w+)(:path)?}")


def test_it_is_valid() -> None:
    validate(whole_document())


def test_every_route_is_in_it_and_nothing_else() -> None:
    built = {(method, API + path) for method, path, _ in ENDPOINTS}
    built |= {(each.method, ADMIN + each.path) for each in ADMIN_OPERATIONS}
    foreign = {*traces.PATHS, litellm.LITELLM.path}
    built |= {("POST", path) for path in INTAKE_PATHS if path not in foreign} | {
        ("GET", f"{API}/openapi.json")
    }
    described = {
        (method.upper(), path)
        for path, operations in whole_document()["paths"].items()
        for method in operations
    }
    assert described == {(method, PARAMETER.sub(r"{\1}", path)) for method, path in built}


def test_operations_have_names_of_their_own() -> None:
    names = [
        each["operationId"]
        for operations in whole_document()["paths"].values()
        for each in operations.values()
    ]
    assert len(names) == len(set(names))


def undescribed(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if "$ref" not in schema and "description" not in schema:
        parts = [*schema.get("anyOf", ()), *schema.get("allOf", ())]
        if not any("description" in each or "$ref" in each for each in parts):
            yield path
    for name, each in schema.get("properties", {}).items():
        yield from undescribed(each, f"{path}.{name}")


def test_every_object_field_and_parameter_is_described() -> None:
    components = whole_document()["components"]["schemas"]
    assert [each for name, schema in components.items() for each in undescribed(schema, name)] == []
    parameters = [
        (operation["operationId"], each["name"])
        for operations in whole_document()["paths"].values()
        for operation in operations.values()
        for each in operation["parameters"]
        if not each["description"]
    ]
    assert parameters == []


def test_objects_of_answers_have_no_other_fields() -> None:
    closed = {
        name
        for name, each in whole_document()["components"]["schemas"].items()
        if "additionalProperties" in each
    }
    assert {"Invoice", "InvoiceDetails", "Fee", "Customer", "Plan", "Error", "Pagination"} <= closed
    assert not {"CustomerInput", "PlanInput"} & closed


def test_it_is_served_without_a_key(api: Api) -> None:
    response = api.client.get("/api/v1/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["openapi"] == "3.1.0"


OBJECTS = {
    "billable_metric": "BillableMetric",
    "credit_note": "CreditNote",
    "customer": "Customer",
    "event_error": "EventError",
    "fee": "Fee",
    "invoice": "InvoiceDetails",
    "late_usage": "LateUsage",
    "payment": "Payment",
    "payment_receipt": "PaymentReceipt",
    "payment_request": "PaymentRequest",
    "plan": "Plan",
    "subscription": "Subscription",
    "wallet": "Wallet",
    "wallet_transaction": "WalletTransactionDetails",
    "triggered_alert": "TriggeredAlert",
    "feature": "Feature",
}


def test_webhooks_carry_the_objects_of_the_document_and_numbers_that_were_sent(api: Api) -> None:
    metric = api.metric()
    rules = {
        "total_units": "state.total_units + event.properties.tokens",
        "amount": "event.properties.tokens * custom_properties.third",
    }
    own = api.metric("own", aggregation_type="custom_agg", field_name=None, custom_aggregator=rules)
    by_rules = {"charge_model": "custom", "properties": {"custom_properties": {"third": 0.25}}}
    plan = api.plan(
        charges=[charge(metric), charge(own, **by_rules)],
        amount_cents=3_100,
        pay_in_advance=True,
        trial_period=0.5,
    )
    customer = api.customer()
    subscription = api.subscribe()
    api.put("/test_clock", {"test_clock": {"now": "2024-04-02T00:00:00Z"}})
    api.delete("/subscriptions/sub")
    invoice = api.get("/invoices")["invoices"][0]
    (fee, *_) = api.get("/fees")["fees"]
    note = api.get("/credit_notes")["credit_notes"][0]
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "granted_credits": "2"}
    wallet = api.post("/wallets", {"wallet": wallet})["wallet"]
    (granted,) = api.get(f"/wallets/{wallet['lago_id']}/wallet_transactions")["wallet_transactions"]
    made = {
        "wallet": wallet,
        "wallet_transaction": granted,
        "billable_metric": metric,
        "credit_note": note,
        "customer": customer,
        "fee": fee,
        "invoice": invoice,
        "plan": plan,
        "subscription": subscription,
    }
    assert {name for name in RENDERERS if "." not in name} == OBJECTS.keys()
    api.conn.rollback()
    for kind, shown in made.items():
        object_id = UUID(shown["lago_id"])
        found = RENDERERS[kind](api.conn, [object_id])[object_id]
        body = json.loads(body_of(api.organization.id, f"{kind}.created", kind, found))
        check = validator(kind, {"$ref": f"#/components/schemas/{OBJECTS[kind]}"})
        assert [error.message for error in check.iter_errors(body[kind])] == [], kind
        if kind == "plan":
            assert body["plan"]["trial_period"] == 0.5
            assert body["plan"]["charges"][1]["properties"] == by_rules["properties"]


TAX = {
    "lago_id": "00000000-0000-0000-0000-000000000001",
    "name": "VAT",
    "code": "vat",
    "rate": 20.0,
    "description": None,
    "applied_to_organization": False,
    **dict.fromkeys(
        ("add_ons_count", "customers_count", "plans_count", "charges_count", "commitments_count"), 0
    ),
    "created_at": "2024-03-05T10:00:00Z",
}


@pytest.mark.parametrize(
    ("tax", "is_fine"),
    [
        (TAX, True),
        (TAX | {"applied_to_billing_entities_codes": ["acme"]}, True),
        (TAX | {"colour": "red"}, False),
        ({name: value for name, value in TAX.items() if name != "code"}, False),
        (TAX | {"rate": "20.0"}, False),
        (TAX | {"lago_id": "vat"}, False),
        (TAX | {"created_at": "yesterday"}, False),
        (TAX | {"name": None}, False),
    ],
)
def test_the_check_of_answers_sees_what_is_wrong(tax: Any, is_fine: bool) -> None:
    asked = httpx2.Request("GET", "http://testserver/api/v1/taxes/vat")
    assert (problems(httpx2.Response(200, json={"tax": tax}, request=asked)) == []) is is_fine


def test_the_check_of_answers_sees_what_is_not_described() -> None:
    def said(method: str, path: str, status: int, content: Any) -> bool:
        asked = httpx2.Request(method, f"http://testserver/api/v1{path}")
        return problems(httpx2.Response(status, json=content, request=asked)) == []

    error = {"status": 403, "error": "Forbidden", "message": "No."}
    assert said("GET", "/test_clock", 403, error)
    refused = {"status": 405, "error": "Method Not Allowed", "message": "No."}
    assert not said("GET", "/taxes", 405, refused)
    assert not said("GET", "/test_clock", 403, {"error": "Forbidden"})
    assert not said("GET", "/nowhere", 200, {})
    assert not said("GET", "/taxes", 200, {"taxes": []})
