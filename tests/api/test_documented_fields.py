"""Every field of Lago's API that a write of ours may be sent: it is read back from the answer, or refused by its name.

A field that is accepted and not used is the worst of both: its sender believes that it counts.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from permille.usecases.invoices import advance

from .conftest import START, Api, charge, plan_body
from .test_amendments import Sender

Body = dict[str, Any]
Operation = tuple[str, str]

UNSEEN = object()
_numbers = itertools.count(1)


def documented() -> dict[Operation, list[tuple[str, str]]]:
    found: dict[Operation, list[tuple[str, str]]] = defaultdict(list)
    text = (Path(__file__).parent / "documented_fields.txt").read_text()
    for line in text.splitlines():
        if not line.startswith("#"):
            method, path, field, kind = line.split()
            found[method, path].append((field, kind))
    return dict(found)


DOCUMENTED = documented()

RANGES = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "3", "flat_amount": "2"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
]
SHARES = [
    {"from_value": 0, "to_value": 10, "rate": "3", "flat_amount": "2"},
    {"from_value": 11, "to_value": None, "rate": "1", "flat_amount": "0"},
]
PRICES: dict[str, Body] = {
    "standard": {"amount": "7", "pricing_group_keys": ["region"]},
    "package": {"amount": "7", "free_units": 5, "package_size": 20},
    "percentage": {
        "rate": "2.5",
        "fixed_amount": "4",
        "free_units_per_events": 3,
        "free_units_per_total_aggregation": "6",
        "per_transaction_max_amount": "9",
        "per_transaction_min_amount": "1",
    },
    "graduated": {"graduated_ranges": RANGES},
    "graduated_percentage": {"graduated_percentage_ranges": SHARES},
    "volume": {"volume_ranges": RANGES},
}
VALUES: Body = {
    "name": "Another name",
    "default_currency": "GBP",
    "document_numbering": "per_billing_entity",
    "document_number_prefix": "ZZ-9",
    "finalize_zero_amount_invoice": False,
    "document_locale": "fr",
    "invoice_grace_period": 3,
    "subscription_invoice_issuing_date_anchor": "current_period_end",
    "subscription_invoice_issuing_date_adjustment": "keep_anchor",
    "net_payment_term": 30,
    "country": "FR",
    "email": "billing@example.com",
    "timezone": "Europe/Paris",
    "tax_codes": ["vat"],
    "invoice_custom_section_codes": ["terms"],
    "email_settings": ["invoice.finalized"],
    "eu_tax_management": True,
    "logo": "data:image/png;base64,iVBORw0KGgo=",
    "logo_url": "https://example.com/logo.png",
    "brand_color": "#8a1c1c",
    "url": "https://example.com",
    "recurring": True,
    "expression": "event.properties.tokens * 2",
    "rounding_function": "ceil",
    "rounding_precision": 2,
    "field_name": "characters",
    "aggregation_type": "max_agg",
    "weighted_interval": "seconds",
    "currency": "GBP",
    "account_type": "partner",
    "customer_type": "company",
    "payment_provider": "stripe",
    "payment_provider_code": "stripe-eu",
    "provider_customer_id": "cus_1",
    "sync": True,
    "sync_with_provider": True,
    "provider_payment_methods": ["card"],
    "skip_invoice_custom_sections": True,
    "display_in_invoice": True,
    "payment_status": "succeeded",
    "webhook_url": "https://example.com/other",
    "signature_algo": "hmac",
    "event_types": ["invoice.created"],
    "interval": "yearly",
    "amount_cents": 4_200,
    "amount_currency": "GBP",
    "trial_period": 5,
    "pay_in_advance": True,
    "bill_charges_monthly": True,
    "bill_fixed_charges_monthly": True,
    "charge_model": "package",
    "invoiceable": False,
    "regroup_paid_fees": "invoice",
    "prorated": True,
    "min_amount_cents": 900,
    "accepts_target_wallet": True,
    "conversion_rate": "3",
    "recurring_threshold": True,
    "billing_time": "anniversary",
    "ending_at": "2024-12-31T00:00:00Z",
    "subscription_at": "2024-03-04T00:00:00Z",
    "consolidate_invoice": False,
    "applied_to_organization": True,
    "rate": "7.5",
    "external_historical_usage_amount_cents": 77,
    "cascade_updates": True,
    "units": 3,
    "timestamp": 1_709_632_000,
    "precise_total_amount_cents": "12.5",
    "payment_method_type": "manual",
    "payment_method_id": "11111111-2222-3333-4444-555555555555",
    "type": "payment",
    "timeout_hours": 5,
    "apply_units_immediately": True,
    "key": "b",
    "values": ["y"],
    "coupon_type": "percentage",
    "percentage_rate": "12.5",
    "frequency": "forever",
    "frequency_duration": 4,
    "expiration": "time_limit",
    "expiration_at": "2024-12-31T00:00:00Z",
    "reusable": False,
    "plan_codes": ["pro"],
    "billable_metric_codes": ["tokens"],
    "paid_at": "2024-03-04T00:00:00Z",
    "rate_amount": "3",
    "priority": 7,
    "paid_credits": "12.5",
    "granted_credits": "2.25",
    "voided_credits": "1.5",
    "fee_types": ["charge"],
    "invoice_requires_successful_payment": True,
    "paid_top_up_min_amount_cents": 300,
    "paid_top_up_max_amount_cents": 900,
    "trigger": "interval",
    "method": "target",
    "started_at": "2024-03-01T00:00:00Z",
    "threshold_credits": "6",
    "target_ongoing_balance": "30",
    "grants_target_top_up": True,
    "ignore_paid_top_up_limits": True,
}
"""By the last name of the field; a text without a value here is made of the name."""


MODEL_OF = {name: model for model, prices in reversed(PRICES.items()) for name in prices} | {
    "grouped_by": "standard",
    "presentation_group_keys": "standard",
}
WITH: dict[str, Body] = {
    "weighted_interval": {"aggregation_type": "weighted_sum_agg"},
    "aggregation_type": {"field_name": "tokens"},
    "rounding_precision": {"rounding_function": "round"},
    "bill_charges_monthly": {"interval": "yearly"},
    "bill_fixed_charges_monthly": {"interval": "yearly"},
    "invoiceable": {"pay_in_advance": True},
    "regroup_paid_fees": {"pay_in_advance": True, "invoiceable": False},
    "charge_model": {"properties": {"amount": "1", "package_size": 10, "free_units": 0}, "filters": []},
    "key": {"value": "some text", "values": ["y"]},
    "values": {"key": "b"},
    "value": {"key": "color"},
    "display_in_invoice": {"key": "color", "value": "red"},
    "coupon_type": {"percentage_rate": "5"},
    "percentage_rate": {"coupon_type": "percentage"},
    "frequency_duration": {"frequency": "recurring"},
    "expiration": {"expiration_at": "2024-12-31T00:00:00Z"},
    "expiration_at": {"expiration": "time_limit"},
    "target_ongoing_balance": {"method": "target"},
}
"""What a field needs beside it, by its last name."""


class World:
    """What the operations work on."""

    def __init__(self, api: Api, dsn: str) -> None:
        self.api, self.dsn = api, dsn
        self._shared: dict[str, Any] = {}
        api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
        terms = {"invoice_custom_section": {"name": "Terms", "code": "terms"}}
        api.post("/invoice_custom_sections", terms)
        api.post("/pricing_units", {"pricing_unit": {"name": "Credits", "code": "cr", "short_name": "CR"}})
        self.metric = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])
        self.seats = api.metric("seats", recurring=True)
        for code in ("seat", "support"):
            body = {"name": code, "code": code, "amount_cents": 100, "amount_currency": "EUR"}
            self.add_on = api.post("/add_ons", {"add_on": body})["add_on"]
        api.customer()

    def charge(self, model: str = "standard", **fields: Any) -> Body:
        prices = PRICES[model]
        bare = {name: value for name, value in prices.items() if not name.endswith("_keys")}
        filters = [{"values": {"model": ["a"]}, "properties": bare, "invoice_display_name": "A"}]
        return charge(
            self.metric,
            **{
                "code": "tokens",
                "charge_model": model,
                "properties": bare,
                "filters": filters,
                "applied_pricing_unit": {"code": "cr", "conversion_rate": "2"},
                **fields,
            },
        )

    def fixed_charge(self, model: str) -> Body:
        model = model if model in ("graduated", "volume") else "standard"
        prices = {"amount": "1"} if model == "standard" else PRICES[model]
        return {"add_on_code": "seat", "charge_model": model, "units": 8, "properties": prices}

    def plan(self, model: str = "standard") -> Any:
        fixed = [self.fixed_charge(model)]
        return self.api.plan(f"plan-{next(_numbers)}", [self.charge(model)], fixed_charges=fixed)

    def shared_plan(self, model: str = "standard") -> Any:
        """For subscriptions: what is written to one leaves the plan as it is, so one of each model serves all."""
        if model not in self._shared:
            self._shared[model] = self.plan(model)
        return self._shared[model]

    def subscription(self, model: str = "standard", **fields: Any) -> Any:
        return self.api.subscribe(f"sub-{next(_numbers)}", plan=self.shared_plan(model)["code"], **fields)


Base = Callable[[World, str], tuple[str, Body]]
"""A fresh place to write to: the path and the body that fields are set in, for a charge of the given model."""


def entity(world: World, _: str) -> tuple[str, Body]:
    (code,) = (each["code"] for each in world.api.get("/billing_entities")["billing_entities"])
    return f"/billing_entities/{code}", {"billing_entity": {}}


def new_metric(world: World, _: str) -> tuple[str, Body]:
    body = {"name": "m", "code": f"m-{next(_numbers)}", "aggregation_type": "sum_agg", "field_name": "tokens"}
    return "/billable_metrics", {"billable_metric": body}


def known_metric(world: World, _: str) -> tuple[str, Body]:
    found = world.api.metric(f"m-{next(_numbers)}")
    return f"/billable_metrics/{found['code']}", {"billable_metric": {}}


def customer(world: World, _: str) -> tuple[str, Body]:
    return "/customers", {"customer": {"external_id": f"cus-{next(_numbers)}"}}


def new_plan(world: World, model: str) -> tuple[str, Body]:
    return "/plans", {"plan": plan_body(f"plan-{next(_numbers)}", [world.charge(model)])}


def known_plan(world: World, model: str) -> tuple[str, Body]:
    found = world.plan(model)
    kept = world.charge(model, id=found["charges"][0]["lago_id"])
    return f"/plans/{found['code']}", {"plan": {"charges": [kept]}}


def new_charge(world: World, model: str) -> tuple[str, Body]:
    return f"/plans/{world.plan(model)['code']}/charges", {
        "charge": world.charge(model, code=f"c-{next(_numbers)}")
    }


def known_charge(world: World, model: str) -> tuple[str, Body]:
    return f"/plans/{world.plan(model)['code']}/charges/tokens", {"charge": {}}


def new_filter(world: World, model: str) -> tuple[str, Body]:
    return f"/plans/{world.plan(model)['code']}/charges/tokens/filters", a_filter(world, model)


def a_filter(world: World, model: str) -> Body:
    return {"filter": {"values": {"model": ["b"]}, "properties": world.charge(model)["properties"]}}


def known_filter(world: World, model: str) -> tuple[str, Body]:
    plan = world.plan(model)
    (found,) = world.api.get(f"/plans/{plan['code']}/charges/tokens/filters")["filters"]
    return f"/plans/{plan['code']}/charges/tokens/filters/{found['lago_id']}", {"filter": {}}


def ids_of(plan: Any) -> Body:
    """What overrides name, beside the body."""
    return {name: plan[name][0]["lago_id"] for name in ("charges", "fixed_charges")}


def new_subscription(world: World, model: str) -> tuple[str, Body]:
    plan = world.shared_plan(model)
    body = {"external_customer_id": "cus", "plan_code": plan["code"], "external_id": f"sub-{next(_numbers)}"}
    return "/subscriptions", {"subscription": body, **ids_of(plan)}


def known_subscription(world: World, model: str) -> tuple[str, Body]:
    found = world.subscription(model, subscription_at="2024-06-01")
    return f"/subscriptions/{found['external_id']}", {"subscription": {}, **ids_of(found["plan"])}


def own_charge(world: World, model: str) -> tuple[str, Body]:
    return f"/subscriptions/{world.subscription(model)['external_id']}/charges/tokens", {"charge": {}}


def own_new_filter(world: World, model: str) -> tuple[str, Body]:
    return f"{own_charge(world, model)[0]}/filters", a_filter(world, model)


def own_filter(world: World, model: str) -> tuple[str, Body]:
    path = f"{own_charge(world, model)[0]}/filters"
    (found,) = world.api.get(path)["filters"]
    return f"{path}/{found['lago_id']}", {"filter": {}}


def lifetime(world: World, _: str) -> tuple[str, Body]:
    return f"/subscriptions/{world.subscription()['external_id']}/lifetime_usage", {"lifetime_usage": {}}


def tax(world: World, _: str) -> tuple[str, Body]:
    return "/taxes", {"tax": {"name": "T", "code": f"t-{next(_numbers)}", "rate": "5"}}


def known_tax(world: World, _: str) -> tuple[str, Body]:
    made = world.api.post(*tax(world, _))["tax"]
    return f"/taxes/{made['code']}", {"tax": {}}


def endpoint(world: World, _: str) -> tuple[str, Body]:
    for each in world.api.get("/webhook_endpoints")["webhook_endpoints"]:
        world.api.delete(f"/webhook_endpoints/{each['lago_id']}")
    url = f"https://example.com/{next(_numbers)}"
    return "/webhook_endpoints", {"webhook_endpoint": {"webhook_url": url}}


def known_endpoint(world: World, _: str) -> tuple[str, Body]:
    made = world.api.post(*endpoint(world, _))["webhook_endpoint"]
    return f"/webhook_endpoints/{made['lago_id']}", {"webhook_endpoint": {"webhook_url": made["webhook_url"]}}


def invoice(world: World, _: str) -> tuple[str, Body]:
    if not world.api.get("/invoices")["invoices"]:
        world.api.plan("now", amount_cents=500, pay_in_advance=True)
        world.api.subscribe("now", plan="now")
    (found,) = world.api.get("/invoices")["invoices"]
    return f"/invoices/{found['lago_id']}", {"invoice": {}}


def fee(world: World, _: str) -> tuple[str, Body]:
    alone = world.charge(pay_in_advance=True, invoiceable=False)
    world.api.plan("alone", [alone])
    world.api.subscribe("alone", plan="alone")
    sender = Sender(world.dsn, world.api)
    sender(START, "alone", tokens=1)
    sender.conn.close()
    with ConnectionPool(world.dsn, min_size=1, max_size=1, open=True) as pool:
        advance.bill_live(pool, START)
    (found,) = world.api.get("/fees")["fees"]
    return f"/fees/{found['lago_id']}", {"fee": {}}


def organization(world: World, _: str) -> tuple[str, Body]:
    return "/organizations", {"organization": {}}


def new_coupon(_world: World, _: str) -> tuple[str, Body]:
    terms = {
        "coupon_type": "fixed_amount",
        "amount_cents": 100,
        "amount_currency": "EUR",
        "frequency": "once",
    }
    body = {"name": "c", "code": f"c-{next(_numbers)}", "expiration": "no_expiration", **terms}
    return "/coupons", {"coupon": body}


def known_coupon(world: World, _: str) -> tuple[str, Body]:
    made = world.api.post(*new_coupon(world, _))["coupon"]
    return f"/coupons/{made['code']}", {"coupon": {}}


def applied_coupon(world: World, _: str, **terms: Any) -> tuple[str, Body]:
    path, body = new_coupon(world, _)
    made = world.api.post(path, {"coupon": {**body["coupon"], **terms}})["coupon"]
    body = {"external_customer_id": "cus", "coupon_code": made["code"]}
    return "/applied_coupons", {"applied_coupon": body}


def applied_percentage(world: World, _: str) -> tuple[str, Body]:
    return applied_coupon(world, _, coupon_type="percentage", percentage_rate="3")


def payment(world: World, _: str) -> tuple[str, Body]:
    invoice_id = invoice(world, _)[0].rsplit("/", 1)[-1]
    return "/payments", {"payment": {"invoice_id": invoice_id, "amount_cents": 1, "reference": "r"}}


def new_wallet(world: World, _: str) -> tuple[str, Body]:
    for each in world.api.get("/wallets", external_customer_id="cus")["wallets"]:
        if each["status"] == "active":
            world.api.delete(f"/wallets/{each['lago_id']}")
    return "/wallets", {"wallet": {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR"}}


def known_wallet(world: World, _: str) -> tuple[str, Body]:
    made = world.api.post(*new_wallet(world, _))["wallet"]
    return f"/wallets/{made['lago_id']}", {"wallet": {}}


def own_new_wallet(world: World, _: str) -> tuple[str, Body]:
    path, body = new_wallet(world, _)
    return f"/customers/{body['wallet'].pop('external_customer_id')}{path}", body


def own_known_wallet(world: World, _: str) -> tuple[str, Body]:
    made = world.api.post(*new_wallet(world, _))["wallet"]
    return f"/customers/cus/wallets/{made['code']}", {"wallet": {}}


def wallet_transaction(world: World, _: str) -> tuple[str, Body]:
    path, body = new_wallet(world, _)
    made = world.api.post(path, {"wallet": {**body["wallet"], "granted_credits": "50"}})["wallet"]
    return "/wallet_transactions", {"wallet_transaction": {"wallet_id": made["lago_id"]}}


RULE = {
    "trigger": "threshold",
    "interval": "monthly",
    "method": "fixed",
    "threshold_credits": "5",
    "target_ongoing_balance": "20",
    "paid_credits": "3",
    "granted_credits": "4",
}

OPERATIONS: dict[Operation, Base] = {
    ("POST", "/applied_coupons"): applied_coupon,
    ("POST", "/coupons"): new_coupon,
    ("PUT", "/coupons/{code}"): known_coupon,
    ("POST", "/payments"): payment,
    ("POST", "/wallets"): new_wallet,
    ("PUT", "/wallets/{lago_id}"): known_wallet,
    ("POST", "/customers/{external_id}/wallets"): own_new_wallet,
    ("PUT", "/customers/{external_id}/wallets/{wallet_code}"): own_known_wallet,
    ("POST", "/wallet_transactions"): wallet_transaction,
    ("PUT", "/billing_entities/{code}"): entity,
    ("POST", "/billable_metrics"): new_metric,
    ("PUT", "/billable_metrics/{code}"): known_metric,
    ("POST", "/customers"): customer,
    ("PUT", "/fees/{lago_id}"): fee,
    ("PUT", "/invoices/{lago_id}"): invoice,
    ("PUT", "/organizations"): organization,
    ("POST", "/plans"): new_plan,
    ("PUT", "/plans/{code}"): known_plan,
    ("POST", "/plans/{code}/charges"): new_charge,
    ("PUT", "/plans/{code}/charges/{charge_code}"): known_charge,
    ("POST", "/plans/{code}/charges/{charge_code}/filters"): new_filter,
    ("PUT", "/plans/{code}/charges/{charge_code}/filters/{filter_id}"): known_filter,
    ("POST", "/subscriptions"): new_subscription,
    ("PUT", "/subscriptions/{external_id}"): known_subscription,
    ("PUT", "/subscriptions/{external_id}/lifetime_usage"): lifetime,
    ("PUT", "/subscriptions/{external_id}/charges/{charge_code}"): own_charge,
    ("POST", "/subscriptions/{external_id}/charges/{charge_code}/filters"): own_new_filter,
    ("PUT", "/subscriptions/{external_id}/charges/{charge_code}/filters/{filter_id}"): own_filter,
    ("POST", "/taxes"): tax,
    ("PUT", "/taxes/{code}"): known_tax,
    ("POST", "/webhook_endpoints"): endpoint,
    ("PUT", "/webhook_endpoints/{lago_id}"): known_endpoint,
}
FITTING: dict[str, Base] = {"applied_coupon.percentage_rate": applied_percentage}
"""Another place to write to, for what goes with it alone."""
OTHERWISE = {
    ("POST", "/events"): "read back by test_an_event_says_what_was_sent",
    ("POST", "/events/batch"): "as one event",
    ("POST", "/events/estimate_fees"): "writes nothing",
    ("POST", "/events/estimate_instant_fees"): "writes nothing",
    ("POST", "/events/batch_estimate_instant_fees"): "writes nothing",
    ("POST", "/billable_metrics/evaluate_expression"): "writes nothing",
    ("POST", "/plans/{code}/metadata"): "one object of free keys: test_plans.py",
    ("PATCH", "/plans/{code}/metadata"): "one object of free keys: test_plans.py",
}
SPECIAL: dict[str, Body] = {
    "grouped_by": {"amount": "7", "grouped_by": ["region"]},
    "presentation_group_keys": {
        "amount": "7",
        "presentation_group_keys": [{"value": "team", "options": {"display_in_invoice": True}}],
    },
}
NO_STATE = {
    "status": "says which subscription is meant",
    "cascade_updates": "says whether the plans of single subscriptions follow: test_overrides.py",
    "id": "names what is meant",
    "apply_units_immediately": "says when units count: test_fixed_charges.py",
    "invoice_id": "names what is meant",
    "wallet_id": "names what is meant",
    "lago_id": "names what is meant: test_wallets.py",
    "ignore_paid_top_up_limits_on_creation": "says whether limits count: test_wallets.py",
}
SECTION_CHOOSERS = ("subscription", "wallet", "wallet.recurring_transaction_rules[]", "wallet_transaction")
ELSEWHERE = {
    **{
        f"{owner}.invoice_custom_section.skip_invoice_custom_sections": "invoices say: test_custom_sections.py"
        for owner in SECTION_CHOOSERS
    },
    **{
        f"wallet.{name}": "its first transactions have it: test_wallets.py"
        for name in (
            "paid_credits",
            "granted_credits",
            "transaction_metadata",
            "transaction_metadata[].key",
            "transaction_metadata[].value",
            "transaction_name",
        )
    },
    "wallet_transaction.ignore_paid_top_up_limits": "says whether limits count: test_wallets.py",
}
"""Fields that no answer to the write itself shows, and where they are looked at."""
SHOWN = (
    {"payment.paid_at": "payment.created_at"}
    | {
        f"{owner}.invoice_custom_section.invoice_custom_section_codes": f"{owner}.invoice_custom_section_codes"
        for owner in SECTION_CHOOSERS
    }
    | {
        f"wallet_transaction.{kind}_credits": "wallet_transaction.credit_amount"
        for kind in ("paid", "granted", "voided")
    }
    | {f"coupon.applies_to.{name}": f"coupon.{name}" for name in ("plan_codes", "billable_metric_codes")}
    | {
        f"billing_entity.billing_configuration.{name}": f"billing_entity.{name}"
        for name in (
            "invoice_footer",
            "document_locale",
            "invoice_grace_period",
            "subscription_invoice_issuing_date_anchor",
            "subscription_invoice_issuing_date_adjustment",
        )
    }
)
"""Where an answer has what is sent elsewhere, as Lago's has."""
SEEN: dict[str, Callable[[Any], Any]] = {
    "tax_codes": lambda found: [each["code"] for each in found["taxes"]],
    "billable_metric_id": lambda found: found["lago_billable_metric_id"],
    "add_on_id": lambda found: found["lago_add_on_id"],
    "webhook_url": lambda found: found["webhook_url"],
    "invoice_custom_section_codes": lambda found: (
        [
            each["code"]
            for name in ("selected_invoice_custom_sections", "applicable_invoice_custom_sections")
            for each in found.get(name, ())
        ]
        + [
            each["invoice_custom_section"]["code"]
            for each in found.get("applied_invoice_custom_sections", ())
        ]
    ),
}
"""Where a field is read from in the object that has it, if it has another name there."""


def test_every_write_is_looked_at() -> None:
    assert OPERATIONS.keys() | OTHERWISE.keys() == DOCUMENTED.keys()


def leaf(field: str) -> str:
    return field.rsplit(".", 1)[-1]


def put(body: Any, field: str, value: Any) -> None:
    """Set a field in a body, in the first entry of each list on the way, with what it needs beside it."""
    *way, last = field.split(".")
    for name in way:
        if name.endswith("[]"):
            entries = body.setdefault(name[:-2], [])
            if not entries:
                entries.append({})
            body = entries[0]
        else:
            if not isinstance(body.get(name), dict):
                body[name] = {}
            body = body[name]
    body |= {name: each for name, each in WITH.get(last, {}).items() if name != last}
    body[last] = value


def look(answer: Any, field: str) -> Any:
    """The value of a field in an answer, UNSEEN where it has none."""
    *way, last = field.split(".")
    for name in way:
        answer = answer.get(name.removesuffix("[]")) if isinstance(answer, dict) else None
        if name.endswith("[]"):
            answer = answer[0] if isinstance(answer, list) and answer else None
    if not isinstance(answer, dict):
        return UNSEEN
    try:
        return SEEN[last](answer) if last in SEEN else answer.get(last, UNSEEN)
    except KeyError:
        return UNSEEN


def same(sent: Any, seen: Any) -> bool:
    """Whether what is seen says what was sent: a number and its text are the same."""
    if seen is UNSEEN or sent is None or seen is None:
        return sent is seen
    if isinstance(sent, bool) or isinstance(seen, bool):
        return sent is seen
    if isinstance(sent, dict):
        return isinstance(seen, dict) and all(same(value, seen.get(name)) for name, value in sent.items())
    if isinstance(sent, list):
        return isinstance(seen, list) and all(any(same(one, other) for other in seen) for one in sent)
    try:
        return Decimal(str(sent)) == Decimal(str(seen))
    except ArithmeticError:
        return str(sent) == str(seen).replace(".000Z", "Z")


def value_of(world: World, operation: Operation, field: str, kind: str) -> Any:
    name = leaf(field)
    if name == "billable_metric_id":
        return world.seats["lago_id"]
    if name == "add_on_id":
        return world.add_on["lago_id"]
    if name == "finalize_zero_amount_invoice" and "customer" in field:
        return "skip"
    if name == "document_numbering" and operation[1] == "/organizations":
        return "per_organization"
    if name == "code" and "applied_pricing_unit" in field:
        return "cr"
    if name == "billing_entity_code":
        return "another-entity"
    if name in ("external_customer_id", "plan_code") and field.count(".") == 1:
        return {"external_customer_id": "cus", "plan_code": "pro"}[name]
    if name == "metadata":
        return {"color": "red"}
    if name == "type" and "activation_rules" in field:
        return "payment"
    if name == "timeout_hours":
        return 48
    if name == "values" and "filters" not in field:
        return {"model": ["b"]}
    if name == "values" and kind == "object":
        return {"model": ["b"]}
    if name == "recurring" and "threshold" in field:
        return True
    if name in VALUES:
        return VALUES[name]
    return f"some-{name}-{next(_numbers)}"


def problem(world: World, operation: Operation, field: str, kind: str) -> str | None:
    """What is wrong with how a field is taken, None when it is read back or refused by its name."""
    method, _ = operation
    base = FITTING.get(field) or OPERATIONS[operation]
    top = (
        field.split("properties.", 1)[1].split(".", maxsplit=1)[0].removesuffix("[]")
        if "properties." in field
        else None
    )
    model = MODEL_OF[top] if top else "standard"
    path, body = base(world, model)
    ids = {name: body.pop(name, None) for name in ("charges", "fixed_charges")}
    if operation == ("PUT", "/billing_entities/{code}"):
        field = f"billing_entity.{field}"
    for name, own_id in ids.items():
        if own_id and f"plan_overrides.{name}[]" in field:
            put(body, f"subscription.plan_overrides.{name}[].id", own_id)
    if field.startswith("plan.fixed_charges[]"):
        body["plan"]["fixed_charges"] = [world.fixed_charge(model)]
    before, _, after = field.partition("filters[].")
    if after and "properties" not in before and "metric" not in before:
        put(body, f"{before}filters", [a_filter(world, model)["filter"]])
    owner, _, _ = field.rpartition(".")
    if leaf(owner) == "minimum_commitment":
        put(body, f"{owner}.amount_cents", VALUES["amount_cents"])
    if owner.endswith("activation_rules[]"):
        put(body, f"{owner}.type", "payment")
    if owner.endswith("usage_thresholds[]"):
        put(body, f"{owner}.amount_cents", VALUES["amount_cents"])
    if top:
        prices = SPECIAL.get(top) or PRICES[model]
        of_fixed, sent = "fixed_charges[]" in field, deepcopy(prices)
        field = field.split("properties.", 1)[0] + "properties"
        if of_fixed:
            sent = {name: each for name, each in sent.items() if not name.endswith("_keys")}
    else:
        sent = value_of(world, operation, field, kind)
    if leaf(owner) == "recurring_transaction_rules[]" or "recurring_transaction_rules[]." in owner:
        rule = {**RULE, **({"trigger": "interval"} if leaf(field) == "interval" else {})}
        body["wallet"]["recurring_transaction_rules"] = [rule]
    if path == "/wallet_transactions" and not field.endswith("_credits"):
        body["wallet_transaction"]["granted_credits"] = "1"
    put(body, field, sent)
    if leaf(field) == "prorated":
        put(body, field.replace("prorated", "billable_metric_id"), world.seats["lago_id"])
        put(body, field.replace("prorated", "filters"), [])
    if leaf(field) == "billable_metric_id":
        put(body, field.replace("billable_metric_id", "filters"), [])
    response = world.api.call(method, path, body)
    answer = one_of_several(response.json())
    if response.status_code == 422:
        return None if names(answer["error_details"], field) else f"refused, but not by its name: {answer}"
    if response.status_code == 404 and answer["code"] == f"{leaf(field).removesuffix('_code')}_not_found":
        return None
    if response.status_code != 200:
        return f"{response.status_code} {answer}"
    return unseen(field, sent, answer, top) or unseen(field, sent, shown(world, operation, path, answer), top)


def one_of_several(answer: Any) -> Any:
    """The first of the transactions that one request makes."""
    made = answer.get("wallet_transactions")
    return {"wallet_transaction": made[0]} if made else answer


KEYS = {"fee": "lago_id", "filter": "lago_id", "invoice": "lago_id", "webhook_endpoint": "lago_id"}
KEYS |= {"customer": "external_id", "subscription": "external_id"}
KEYS |= dict.fromkeys(("payment", "wallet", "wallet_transaction"), "lago_id")


def shown(world: World, operation: Operation, path: str, answer: Any) -> Any:
    """What GET says of the object that was answered."""
    ((root, found),) = answer.items()
    params = {"status": found["status"]} if root == "subscription" else {}
    if root == "applied_coupon":
        rows = world.api.get(path)["applied_coupons"]
        return {root: next(each for each in rows if each["lago_id"] == found["lago_id"])}
    if root in ("organization", "lifetime_usage"):
        return world.api.get(path)
    if root == "wallet":
        path = "/wallets" if operation[0] == "POST" else "/wallets/"
    collection = path if operation[0] == "POST" else path.rsplit("/", 1)[0]
    return world.api.get(f"{collection}/{found[KEYS.get(root, 'code')]}", **params)


def unseen(field: str, sent: Any, answer: Any, top: str | None) -> str | None:
    """How the answer differs from what was sent."""
    seen = look(answer, SHOWN.get(field) or field.replace("plan_overrides", "plan"))
    if top == "grouped_by" and isinstance(seen, dict):
        seen = {**seen, "grouped_by": seen.get("pricing_group_keys")}
    return None if same(sent, seen) else f"sent {sent!r}, seen {'nothing' if seen is UNSEEN else repr(seen)}"


def names(details: Any, field: str) -> bool:
    """Whether a refusal names the field, or the object that it is in."""
    return bool(set(details) & {part.removesuffix("[]") for part in field.split(".")})


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_a_field_is_read_back_or_refused_by_its_name(api: Api, dsn: str, operation: Operation) -> None:
    world = World(api, dsn)
    world.api.plan("pro")
    wrong = {}
    for field, kind in DOCUMENTED[operation]:
        is_whole = field.endswith("[]") or (kind == "object" and leaf(field) not in ("metadata", "values"))
        if is_whole or leaf(field) in NO_STATE or field in ELSEWHERE:
            continue
        if found := problem(world, operation, field, kind):
            wrong[field] = found
    assert not wrong, "\n".join(f"{field}: {text}" for field, text in wrong.items())
