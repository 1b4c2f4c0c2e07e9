"""Whatever JSON a request holds, the answer is a clear 4xx that names the field, and never a 500."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from permille.app import INTAKE_PATHS
from permille.store import audit
from tests.api.conftest import Api, Server, charge, join, plan_body
from tests.api.contract import whole_document

DEEP = json.loads("[" * 200 + "]" * 200)
HOSTILE: list[Any] = [
    [],
    ["a"],
    {},
    {"a": 1},
    True,
    -1,
    10**19,
    10**40,
    1.5,
    -0.0,
    "",
    " ",
    "\0",
    "a\0b",
    "x" * 20_000,
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2024-02-30",
    "NaN",
    "-1",
    "1e400",
    "💸" * 300,
    DEEP,
    [None],
    [{}],
    [["a"]],
    [{"\0": "\0"}],
    {"\0": ["\0"]},
]
STRIDE = 7
RAW_NUMBERS = ["1e400", "-1e400", "1" * 4000, "0." + "1" * 4000, "1e-400", "1E999999"]

METRIC = {
    "name": "m",
    "code": "m",
    "aggregation_type": "weighted_sum_agg",
    "field_name": "n",
    "description": "d",
    "recurring": False,
    "rounding_function": "round",
    "rounding_precision": 1,
    "weighted_interval": "seconds",
    "expression": "event.properties.n * 2",
    "filters": [{"key": "k", "values": ["v"]}],
}
CUSTOM_METRIC = {
    "name": "m",
    "code": "own_rules",
    "aggregation_type": "custom_agg",
    "custom_aggregator": {
        "total_units": "state.total_units + event.properties.n",
        "amount": "if(event.properties.n > custom_properties.least and event.code != 'a', 1, 2)",
    },
}
CUSTOMER = {
    "external_id": "c",
    "name": "n",
    "email": "e@e.test",
    "url": "u",
    "country": "FR",
    "currency": "EUR",
    "timezone": "UTC",
    "net_payment_term": 1,
    "invoice_grace_period": 0,
    "customer_type": "company",
    "account_type": "customer",
    "finalize_zero_amount_invoice": "skip",
    "skip_invoice_custom_sections": True,
    "shipping_address": {"city": "c", "country": "FR"},
    "billing_configuration": {
        "invoice_grace_period": 0,
        "document_locale": "fr",
        "subscription_invoice_issuing_date_anchor": "current_period_end",
        "payment_provider": None,
    },
    "metadata": [{"id": "x", "key": "k", "value": "v", "display_in_invoice": True}],
    "billing_entity_code": "default",
    "tax_codes": [],
}
SUBSCRIPTION = {
    "external_customer_id": "c",
    "plan_code": "p",
    "external_id": "s",
    "name": "n",
    "billing_time": "calendar",
    "subscription_at": "2024-03-06T00:00:00Z",
    "ending_at": "2025-01-01",
    "on_termination_credit_note": "skip",
    "on_termination_invoice": "skip",
    "consolidate_invoice": True,
    "purchase_order_number": "1",
    "progressive_billing_disabled": False,
    "billing_entity_code": "default",
    "plan_overrides": None,
}
ORGANIZATION = {
    "document_numbering": "per_customer",
    "document_number_prefix": "A",
    "timezone": "UTC",
    "default_currency": "EUR",
    "net_payment_term": 1,
    "webhook_url": "https://a.test",
    "country": "FR",
    "city": "c",
    "finalize_zero_amount_invoice": True,
    "email_settings": [],
    "billing_configuration": {"invoice_footer": "f", "invoice_grace_period": 0},
}
TAX = {
    "name": "n",
    "code": "vat",
    "rate": "20",
    "description": "d",
    "applied_to_organization": True,
}
PRICING_UNIT = {"name": "n", "code": "credits", "short_name": "CR", "description": "d"}
APPLIED = {"code": "kept", "conversion_rate": "0.5"}
EVENT = {
    "code": "tokens",
    "transaction_id": "t",
    "external_subscription_id": "running",
    "timestamp": 1_709_600_000,
    "precise_total_amount_cents": "1.5",
    "properties": {"tokens": 3, "k": "v", "operation_type": "add"},
}
OVERRIDES = {
    "amount_cents": 1,
    "amount_currency": "EUR",
    "name": "n",
    "description": "d",
    "invoice_display_name": "n",
    "trial_period": 1,
    "tax_codes": [],
    "charges": [],
}
ENDPOINT = {
    "webhook_url": "https://b.test",
    "signature_algo": "hmac",
    "name": "n",
    "event_types": ["invoice.created"],
}


def plan_of(metric: Any) -> dict[str, Any]:
    """A plan with everything in it."""
    tiers = [{"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "1"}]
    price = {"amount": "1", "pricing_group_keys": ["a"], "presentation_group_keys": [{"value": "b"}]}
    charges = [
        charge(
            metric,
            id=None,
            code="c",
            invoice_display_name="n",
            prorated=False,
            invoiceable=True,
            regroup_paid_fees=None,
            min_amount_cents=0,
            applied_pricing_unit=APPLIED,
            properties=price,
            filters=[{"invoice_display_name": "f", "values": {"k": ["v"]}, "properties": {"amount": "2"}}],
        ),
        charge(metric, charge_model="graduated", properties={"graduated_ranges": tiers}),
        charge(
            metric, charge_model="package", properties={"amount": "1", "package_size": 1, "free_units": 0}
        ),
        charge(metric, charge_model="percentage", properties={"rate": "1", "free_units_per_events": 1}),
    ]
    return plan_body(
        "p",
        charges,
        description="d",
        trial_period=1,
        bill_charges_monthly=None,
        metadata={"a": "b"},
        invoice_display_name="n",
        tax_codes=[],
    )


def requests(metric: Any, own_rules: Any) -> list[tuple[str, str, str, Any]]:
    """(method, path, root, a body that is accepted)."""
    custom_charge = charge(
        own_rules,
        code="own",
        charge_model="custom",
        properties={"custom_properties": {"least": 1, "name": "n"}},
    )
    whole = plan_of(metric)
    own = {**whole["charges"][0], "filters": []}
    del own["billable_metric_id"], own["code"]  # they stay as they are
    price = {"values": {"k": ["__ALL_FILTER_VALUES__"]}, "properties": {"amount": "2"}}
    return [
        ("POST", "/events/estimate_fees", "event", EVENT),
        ("POST", "/events/estimate_instant_fees", "event", EVENT),
        ("PUT", "/subscriptions/own", "subscription", {"plan_overrides": OVERRIDES}),
        ("PUT", "/subscriptions/own/charges/tokens", "charge", own),
        ("POST", "/subscriptions/own/charges/tokens/filters", "filter", price | {"values": {"k": ["v"]}}),
        ("POST", "/billable_metrics", "billable_metric", METRIC),
        ("PUT", "/billable_metrics/base", "billable_metric", METRIC | {"code": "renamed"}),
        ("POST", "/billable_metrics", "billable_metric", CUSTOM_METRIC),
        ("POST", "/plans/plan/charges", "charge", custom_charge),
        ("POST", "/plans", "plan", whole),
        ("POST", "/plans/plan/charges", "charge", whole["charges"][0]),
        ("PUT", "/plans/plan/charges/tokens", "charge", whole["charges"][0]),
        ("POST", "/plans/plan/charges/tokens/filters", "filter", price),
        ("PUT", "/plans/plan", "plan", whole | {"code": "renamed"}),
        ("POST", "/customers", "customer", CUSTOMER),
        ("POST", "/subscriptions", "subscription", SUBSCRIPTION | {"plan_code": "plan"}),
        ("PUT", "/subscriptions/running", "subscription", SUBSCRIPTION),
        ("PUT", "/organizations", "organization", ORGANIZATION),
        ("PUT", "/billing_entities/default", "billing_entity", ORGANIZATION),
        ("POST", "/webhook_endpoints", "webhook_endpoint", ENDPOINT),
        ("POST", "/taxes", "tax", TAX),
        ("PUT", "/taxes/kept", "tax", TAX | {"code": "other"}),
        ("POST", "/pricing_units", "pricing_unit", PRICING_UNIT),
        ("PUT", "/pricing_units/kept", "pricing_unit", PRICING_UNIT | {"code": "other"}),
    ]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a body is."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*path, key))
    return found


def changed(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    """The body with one value replaced."""
    if not path:
        return wrong
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], wrong)
    return copy


def made_ready(api: Api):
    """An organization with something to change, and the requests."""
    metric = api.metric("base", filters=[{"key": "k", "values": ["v"]}])
    priced = api.metric("tokens", filters=[{"key": "k", "values": ["v"]}])
    own_rules = api.post("/billable_metrics", {"billable_metric": CUSTOM_METRIC | {"code": "rules"}})
    api.post("/pricing_units", {"pricing_unit": PRICING_UNIT | {"code": "kept"}})
    in_units = charge(priced, applied_pricing_unit=APPLIED)
    api.plan("plan", [in_units, charge(priced, code="early", pay_in_advance=True)])
    api.post("/taxes", {"tax": TAX | {"code": "kept"}})
    api.subscribe("running", plan="plan")
    api.subscribe("own", plan="plan")
    return api, requests(metric, own_rules["billable_metric"])


@pytest.fixture
def ready(api: Api):
    return made_ready(api)


@pytest.fixture(scope="module")
def ready_once(server: Server):
    """One for all that nothing is to be taken of; its books must be in order after them."""
    api = join(server, "Acme")
    yield made_ready(api)
    server.conn.rollback()
    assert list(audit.findings(server.conn, organization_id=api.organization.id)) == []


def send(api: Api, method: str, path: str, content: str | bytes) -> Any:
    response = api.client.request(
        method, f"/api/v1{path}", content=content, headers={"Authorization": f"Bearer {api.key}"}
    )
    assert response.status_code in (200, 400, 403, 404, 405, 422), (response.status_code, content[:500])
    body = response.json()
    if response.status_code == 422:
        assert body["error_details"], body
        assert all(isinstance(codes, list) and codes for codes in body["error_details"].values())
    return response


def test_bodies_are_accepted_as_they_are(ready):
    api, wanted = ready
    for method, path, root, body in wanted:
        response = send(api, method, path, json.dumps({root: body}))
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("number", range(22))
def test_a_hostile_value_anywhere(ready, number):
    """Each place gets every seventh value, and each next place the next ones."""
    api, wanted = ready
    method, path, root, body = wanted[number]
    texts = [json.dumps(value) for value in HOSTILE] + RAW_NUMBERS
    for turn, place in enumerate(paths(body)):
        for wrong in texts[turn % STRIDE :: STRIDE]:
            content = json.dumps({root: changed(body, place, "@@")}).replace('"@@"', wrong)
            send(api, method, path, content)


@pytest.mark.parametrize("wrong", [value for value in HOSTILE if value])
def test_a_hostile_body(ready_once, wrong):
    api, wanted = ready_once
    for method, path, root, _ in wanted:
        send(api, method, path, json.dumps(wrong))
        send(api, method, path, json.dumps({root: wrong}))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"plan": "\xff"}', b'{"plan": NaN}', b'"\\ud800"', b"[" * 100_000, b"null"],
)
def test_a_body_that_is_no_json(ready_once, content):
    api, wanted = ready_once
    for method, path, _, _ in wanted:
        assert send(api, method, path, content).status_code == 400


@pytest.mark.parametrize("text", ["%00", "%ff", "..%2f", "x" * 5000, "%F0%9F%92%B8", "'", "a b"])
def test_a_hostile_address(ready_once, text):
    api, _ = ready_once
    nouns = (
        "plans",
        "customers",
        "subscriptions",
        "billable_metrics",
        "webhook_endpoints",
        "billing_entities",
        "taxes",
        "pricing_units",
    )
    for noun in nouns:
        for method in ("GET", "DELETE"):
            if (method, noun) != ("DELETE", "billing_entities"):
                assert send(api, method, f"/{noun}/{text}", b"").status_code in (400, 404)
        query = f"page={text}&per_page={text}&status[]={text}&search_term={text}&metadata[{text}]={text}"
        send(api, "GET", f"/{noun}?{query}&currency={text}&plan_code={text}&has_customer_type={text}", b"")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5_000,
        "[" * 400 + "]" * 400,
        "[1e99999999999999999999]",
        '{"a": 1e-99999999999999999999}',
        '["\\ud800"]',
    ],
)
def test_hostile_json_in_an_address(ready_once, text):
    api, _ = ready_once
    for name in ("group", "filter_by_group", "filter_by_presentation"):
        query = urlencode({"external_subscription_id": "running", name: text})
        assert send(api, "GET", f"/customers/cus/current_usage?{query}", b"").status_code in (200, 404)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["gpt-4", "EUR", "monthly", "standard", "2024-01-01", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_anywhere(ready, data):
    api, wanted = ready
    method, path, root, body = data.draw(st.sampled_from(wanted))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(paths(body)))
        wrong = data.draw(json_values)
        if place in paths(body):
            body = changed(body, place, wrong)
    send(api, method, path, json.dumps({root: body}))


@pytest.mark.parametrize("wrong", HOSTILE)
def test_a_hostile_expression(ready, wrong):
    api, _ = ready
    path = "/billable_metrics/evaluate_expression"
    event = {"code": "c", "timestamp": 1, "properties": {"a": 1}}
    for content in (
        {"expression": wrong, "event": event},
        {"expression": "event.properties.a + event.timestamp", "event": wrong},
        {"expression": "event.properties.a + event.timestamp", "event": event | {"properties": {"a": wrong}}},
        {"expression": "event.properties.a + event.timestamp", "event": event | {"timestamp": wrong}},
        wrong,
    ):
        send(api, "POST", path, json.dumps(content))


@pytest.mark.parametrize("wrong", [5, "x", ["a"], [{}], True])
def test_a_root_of_any_operation_that_is_no_object(api: Api, wrong: Any) -> None:
    """Whether the operation finds what its address names is another matter: it must not stumble over the body."""
    sent = 0
    for path, operations in whole_document()["paths"].items():
        if not path.startswith("/api/v1/") or path in INTAKE_PATHS:
            continue
        address = re.sub(r"{\w+}", str(UUID(int=7)), path.removeprefix("/api/v1"))
        for method, operation in operations.items():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for root in schema.get("schema", {}).get("properties", {}):
                answer = api.call(method.upper(), address, {root: wrong})
                assert answer.status_code < 500, (method, path, root)
                sent += 1
    assert sent > 100
