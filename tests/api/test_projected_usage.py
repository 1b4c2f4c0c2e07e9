"""GET /customers/{id}/projected_usage over HTTP: shares of days, price models, filters, groups."""

from __future__ import annotations

from typing import Any

from .conftest import charge
from .test_usage import move, ready, send

__all__ = ["send"]


def projected(api: Any, **params: Any) -> Any:
    return api.get("/customers/cus/projected_usage", external_subscription_id="sub", **params)[
        "customer_projected_usage"
    ]


def subscribed_for_march(api: Any, *charges: Any, **plan: Any) -> None:
    """The clock stands on the 5th of a month of 31 days, of which all is subscribed."""
    api.plan("pro", list(charges), **plan)
    api.customer()
    api.subscribe(subscription_at="2024-02-20T00:00:00Z")


def test_units_and_amounts_go_on_as_they_have(api, send):
    counts = api.metric("calls", aggregation_type="count_agg", field_name=None)
    subscribed_for_march(api, charge(counts, properties={"amount": "10"}))
    for _ in range(3):
        send("calls")
    found = projected(api)
    (one,) = found["charges_usage"]
    # the 5th of 31 days: 3 x 31 / 5 = 18.6
    assert (one["units"], one["projected_units"], one["projected_amount_cents"]) == ("3.0", "18.6", 18_600)
    assert (found["amount_cents"], found["projected_amount_cents"]) == (3_000, 18_600)
    move(api, 2024, 3, 31, 23)
    assert projected(api)["projected_amount_cents"] == 3_000


def test_the_object_has_the_fields_of_lago(api, send):
    subscribed_for_march(api, charge(api.metric()))
    found = projected(api)
    assert found.keys() == {
        "from_datetime",
        "to_datetime",
        "issuing_date",
        "currency",
        "amount_cents",
        "projected_amount_cents",
        "taxes_amount_cents",
        "total_amount_cents",
        "lago_invoice_id",
        "charges_usage",
    }
    (one,) = found["charges_usage"]
    assert one.keys() == {
        "units",
        "projected_units",
        "events_count",
        "amount_cents",
        "projected_amount_cents",
        "pricing_unit_details",
        "unpriced_units",
        "amount_currency",
        "charge",
        "billable_metric",
        "filters",
        "grouped_usage",
        "presentation_breakdowns",
        "projected_presentation_breakdowns",
    }
    assert one["charge"].keys() == {"lago_id", "charge_model", "invoice_display_name"}


def test_the_days_are_those_that_are_subscribed(api, send):
    ready(api, charge(api.metric()))  # from the 5th on: one day of 27
    send(tokens=2)
    (one,) = projected(api)["charges_usage"]
    assert (one["projected_units"], one["projected_amount_cents"]) == ("54.0", 5_400)


def test_what_recurs_is_not_projected(api, send):
    seats = api.metric("seats", aggregation_type="unique_count_agg", field_name="user", recurring=True)
    subscribed_for_march(api, charge(seats))
    send("seats", user="a")
    (one,) = projected(api)["charges_usage"]
    assert (one["projected_units"], one["projected_amount_cents"]) == ("1.0", 100)


def test_each_filter_is_projected_and_the_rest_is_not(api, send):
    metric = api.metric(filters=[{"key": "model", "values": ["8K", "32K"]}])
    filters = [
        {"values": {"model": [model]}, "properties": {"amount": amount}}
        for model, amount in (("8K", "1"), ("32K", "2"))
    ]
    subscribed_for_march(api, charge(metric, filters=filters))
    for model, tokens in (("8K", 5), ("32K", 10), ("1M", 15)):
        send(model=model, tokens=tokens)
    found = projected(api)
    (one,) = found["charges_usage"]
    items = [(each["projected_units"], each["projected_amount_cents"]) for each in one["filters"]]
    assert items == [("31.0", 3_100), ("62.0", 12_400), ("0.0", 0)]
    assert (one["projected_units"], one["projected_amount_cents"]) == ("93.0", 15_500)
    assert (one["amount_cents"], found["amount_cents"]) == (4_000, 4_000)
    # Lago projects the first filter alone here (semantics-metering.md section 8, number 40).
    assert found["projected_amount_cents"] == 3_100


def test_groups_and_breakdowns_are_projected(api, send):
    properties = {
        "amount": "1",
        "pricing_group_keys": ["region"],
        "presentation_group_keys": [{"value": "team"}],
    }
    subscribed_for_march(api, charge(api.metric(), properties=properties))
    send(region="eu", team="a", tokens=5)
    send(region="us", team="b", tokens=10)
    (one,) = projected(api)["charges_usage"]
    groups = {
        each["grouped_by"]["region"]: (each["projected_units"], each["projected_amount_cents"])
        for each in one["grouped_usage"]
    }
    assert groups == {"eu": ("31.0", 3_100), "us": ("62.0", 6_200)}
    assert (one["projected_units"], one["projected_amount_cents"]) == ("93.0", 9_300)
    shown = [each["projected_presentation_breakdowns"] for each in one["grouped_usage"]]
    assert shown == [
        [{"presentation_by": {"team": "a"}, "units": "31.0"}],
        [{"presentation_by": {"team": "b"}, "units": "62.0"}],
    ]


def test_taxes_are_those_of_the_current_usage(api, send):
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    subscribed_for_march(api, charge(api.metric()))
    send(tokens=5)
    found = projected(api)
    assert (found["taxes_amount_cents"], found["total_amount_cents"]) == (100, 600)
    assert projected(api, apply_taxes="false")["taxes_amount_cents"] == 0


def test_refusals_are_those_of_the_current_usage(api):
    ready(api)
    path = "/customers/cus/projected_usage"
    assert api.code(405, "GET", path) == "no_active_subscription"
    assert (
        api.code(404, "GET", "/customers/nobody/projected_usage", external_subscription_id="sub")
        == "resource_not_found"
    )
