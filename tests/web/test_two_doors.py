"""A change of the catalogue has the same consequences through the API and through the web admin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from permille.api import (
    billable_metrics,
    billing_entities,
    catalogue_versions,
    charges,
    customers,
    plans,
    taxes,
)

from .conftest import START, Browser

METRIC = {"name": "Tokens", "code": "tokens", "aggregation_type": "sum_agg", "field_name": "tokens"}
PLAN = {"name": "P", "code": "payg", "interval": "monthly", "amount": "0", "amount_currency": "USD"}
GRID = {
    "billable_metric_code": "tokens",
    "charge_model": "standard",
    "b0:values": "{}",
    "o:amount": "2",
}
CHARGE = {"code": "tokens_2", "charge_model": "standard", "properties": {"amount": "2"}}
Change = Callable[[Browser, Any], object]


def metric_id(browser: Browser) -> str:
    query = "select id from billable_metric where organization_id = %s and deleted_at is null"
    return str(browser.row(query, browser.organization.id)[0])


def by_api(function: Any, body: Any = None, **path: str) -> Change:
    return lambda _, api: api(function, body, **path)


def by_form(path: str, form: Any = None) -> Change:
    return lambda browser, _: browser.sent(path, form)


def add_charge(browser: Browser, api: Any) -> None:
    body = {"charge": {**CHARGE, "billable_metric_id": metric_id(browser)}}
    api(charges.create_charge, body, code="payg")


def import_prices(api: Any) -> str:
    """A pending version of the price catalogue."""
    prices = {"acme/a": {"litellm_provider": "acme", "input_cost_per_token": 1}}
    body = {"catalogue_version": {"label": "newer", "source": "litellm", "prices": prices}}
    return str(api(catalogue_versions.import_version, body)["catalogue_version"]["lago_id"])


def approve_by_api(_: Browser, api: Any) -> None:
    api(catalogue_versions.approve_version, {"catalogue_version": {}}, lago_id=import_prices(api))


def approve_by_form(browser: Browser, api: Any) -> None:
    browser.sent(f"/catalogue-versions/{import_prices(api)}")


CHANGES = {
    "prices approved, API": approve_by_api,
    "prices approved, web": approve_by_form,
    "metric changed, API": by_api(
        billable_metrics.update_billable_metric, {"billable_metric": {"name": "Words"}}, code="tokens"
    ),
    "metric changed, web": by_form("/edit-billable-metric/tokens", {"name": "Words"}),
    "metric deleted, API": by_api(billable_metrics.delete_billable_metric, code="tokens"),
    "metric deleted, web": by_form("/delete-billable-metric/tokens"),
    "plan changed, API": by_api(plans.update_plan, {"plan": {"amount_cents": 100}}, code="payg"),
    "plan changed, web": by_form("/edit-plan/payg", {"name": "P", "amount": "1"}),
    "plan deleted, API": by_api(plans.delete_plan, code="payg"),
    "plan deleted, web": by_form("/delete-plan/payg"),
    "charge added, API": add_charge,
    "charge added, web": by_form("/add-charge/payg", GRID),
    "charge deleted, API": by_api(charges.delete_charge, code="payg", charge_code="tokens"),
    "charge deleted, web": by_form("/delete-charge/payg", {"charge": "tokens"}),
    "tax changed, API": by_api(taxes.update_tax, {"tax": {"rate": "7"}}, code="vat"),
    "tax deleted, API": by_api(taxes.delete_tax, code="vat"),
    "taxes of the seller, API": by_api(
        billing_entities.update_billing_entity, {"billing_entity": {"tax_codes": []}}, code="default"
    ),
    "taxes of the seller, web": by_form("/settings", {"taxes": "yes"}),
    "taxes of a customer, API": by_api(
        customers.upsert_customer, {"customer": {"external_id": "acme", "tax_codes": ["vat"]}}
    ),
}


@pytest.fixture
def catalogue(browser: Browser, api: Any) -> None:
    """A metric, a plan that prices it, a tax of the seller and a customer."""
    browser.sent("/new-billable-metric", METRIC)
    browser.sent("/new-plan", {**PLAN, **GRID})
    tax = {"name": "VAT", "code": "vat", "rate": "19", "applied_to_organization": True}
    api(taxes.create_tax, {"tax": tax})
    browser.sent("/new-customer", {"external_id": "acme"})


def held(browser: Browser) -> Any:
    """A customer that is held for a year."""
    customer_id, later = uuid4(), START + timedelta(days=365)
    with psycopg.connect(browser.dsn) as conn:
        conn.execute(
            "insert into billing_hold (customer_id, organization_id, due_at, since, retry_at, reason)"
            " values (%s, %s, %s, %s, %s, 'too much')",
            [customer_id, browser.organization.id, START, START, later],
        )
    return customer_id


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_held_is_tried_again_soon(
    browser: Browser, api: Any, catalogue: None, change: Change
) -> None:
    customer_id = held(browser)
    change(browser, api)
    (retry_at,) = browser.row("select retry_at from billing_hold where customer_id = %s", customer_id)
    assert retry_at < START + timedelta(days=1)


PRICED = [name for name in CHANGES if name.split()[0] in ("metric", "charge", "prices")]


@pytest.mark.parametrize("name", PRICED)
def test_events_are_looked_at_again_for_prices(
    browser: Browser, api: Any, catalogue: None, name: str
) -> None:
    with psycopg.connect(browser.dsn) as conn:
        conn.execute(
            "delete from unchecked_organization where organization_id = %s", [browser.organization.id]
        )
    CHANGES[name](browser, api)
    query = "select count(*) from unchecked_organization where organization_id = %s"
    assert browser.row(query, browser.organization.id) == (1,)


SUBJECTS = ("metric changed", "metric deleted", "plan changed", "plan deleted")


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("door", ["API", "web"])
def test_a_webhook_is_queued(browser: Browser, api: Any, catalogue: None, subject: str, door: str) -> None:
    endpoint = {"webhook_url": "https://example.com/hooks"}
    browser.sent("/developers", endpoint)
    CHANGES[f"{subject}, {door}"](browser, api)
    noun, what = subject.split()
    webhook_type = {"metric": "billable_metric", "plan": "plan"}[noun]
    found = browser.row(
        "select count(*) from webhook where organization_id = %s and webhook_type = %s",
        browser.organization.id,
        f"{webhook_type}.{'updated' if what == 'changed' else what}",
    )
    assert found == (1,)
