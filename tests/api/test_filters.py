"""Filters of charges: how they are edited, and what usage is priced at meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Iterator[Callable[..., None]]:
    """Store an event of these properties."""
    conn, memory = open_connection(dsn), Memory()

    def one(*, at: datetime = START, code: str = "tokens", sub: str = "sub", **properties: Any) -> None:
        draft = Draft(f"filters-{next(_numbers)}", code, sub, microseconds(at), None, properties)
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])

    yield one
    conn.close()


def price(amount: str, name: str | None = None, **values: list[str]) -> dict[str, Any]:
    return {"values": values, "properties": {"amount": amount}, "invoice_display_name": name}


def dimensions(**values: list[str]) -> list[dict[str, Any]]:
    return [{"key": key, "values": listed} for key, listed in values.items()]


def used(api: Api, sub: str = "sub") -> list[tuple[str | None, str, int]]:
    """Name, units and amount of each filter and of the default bucket."""
    usage = api.get("/customers/cus/current_usage", external_subscription_id=sub)["customer_usage"]
    (only,) = usage["charges_usage"]
    return [(each["invoice_display_name"], each["units"], each["amount_cents"]) for each in only["filters"]]


def test_another_model_needs_prices_of_the_filters_too(api: Api) -> None:
    metric = api.metric(filters=dimensions(model=["a"]))
    api.plan(charges=[charge(metric, filters=[price("2", model=["a"])])])
    package = {"amount": "5", "package_size": 10, "free_units": 0}
    path = "/plans/pro/charges/tokens"
    wanted: dict[str, Any] = {"charge_model": "package", "properties": package}
    assert api.details("PUT", path, {"charge": wanted}) == {
        "properties": ["invalid_package_size", "invalid_free_units"]
    }
    assert api.get(path)["charge"]["charge_model"] == "standard"
    wanted["filters"] = [{"values": {"model": ["a"]}, "properties": package}]
    assert api.put(path, {"charge": wanted})["charge"]["filters"][0]["properties"] == package


def test_a_model_that_needs_no_prices_takes_the_filters_as_they_are(api: Api) -> None:
    metric = api.metric(filters=dimensions(model=["a"]))
    grouped = {"amount": "2", "pricing_group_keys": ["user"]}
    api.plan(charges=[charge(metric, filters=[{"values": {"model": ["a"]}, "properties": grouped}])])
    changed = api.put("/plans/pro/charges/tokens", {"charge": {"charge_model": "dynamic"}})["charge"]
    (left,) = changed["filters"]
    assert left["properties"] == {"pricing_group_keys": ["user"], "grouped_by": ["user"]}


def test_filters_that_an_edit_of_the_metric_made_equal_stay_two(api: Api, send: Callable[..., None]) -> None:
    metric = api.metric(filters=dimensions(model=["a", "b", "c"]))
    filters = [price("3", "first", model=["a", "b"]), price("5", "second", model=["a", "c"])]
    api.plan(charges=[charge(metric, filters=filters)])
    api.customer()
    api.subscribe()
    send(tokens=2, model="a")
    api.put("/billable_metrics/tokens", {"billable_metric": {"filters": dimensions(model=["a"])}})
    right = [("first", "2.0", 600), ("second", "0.0", 0), (None, "0.0", 0)]
    assert used(api) == right
    before = api.get("/plans/pro")["plan"]["charges"]
    sent_back = [{**each, "id": each["lago_id"]} for each in before]
    assert api.put("/plans/pro", {"plan": {"charges": sent_back}})["plan"]["charges"] == before
    assert used(api) == right
    once_more = [*sent_back[0]["filters"], price("9", "third", model=["a"])]
    api.put("/plans/pro/charges/tokens", {"charge": {"filters": once_more}})
    assert used(api) == [("first", "2.0", 600), ("third", "0.0", 0), (None, "0.0", 0)]


def test_a_plan_of_its_own_that_is_still_to_begin_is_metered(api: Api, send: Callable[..., None]) -> None:
    metric = api.metric()
    api.plan("big", [charge(metric)], amount_cents=5_000)
    small = api.plan("small", [charge(metric)], amount_cents=100)
    api.customer()
    api.subscribe(plan="big")
    override = {
        "id": small["charges"][0]["lago_id"],
        "properties": {"amount": "3", "pricing_group_keys": ["user"]},
    }
    api.subscribe(plan="small", plan_overrides={"charges": [override]})
    april = datetime(2024, 4, 2, tzinfo=UTC)
    api.put("/test_clock", {"test_clock": {"now": april.isoformat()}})
    send(at=april, tokens=4, user="bob")
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    (only,) = usage["charges_usage"]
    assert [(each["grouped_by"], each["amount_cents"]) for each in only["grouped_usage"]] == [
        ({"user": "bob"}, 1_200)
    ]
