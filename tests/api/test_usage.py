"""GET /customers/{id}/current_usage and /past_usage, over HTTP, with events stored as ingestion stores them."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store an event of the subscription `sub`, at the test clock's start unless told otherwise."""
    conn, memory = open_connection(dsn), Memory()

    def one(code: str = "tokens", at: datetime = START, sub: str = "sub", **properties: Any) -> None:
        draft = Draft(f"tx-{next(_numbers)}", code, sub, microseconds(at), None, properties)
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])

    yield one
    conn.close()


def usage(api: Api, sub: str = "sub", **params: Any) -> Any:
    return api.get("/customers/cus/current_usage", external_subscription_id=sub, **params)["customer_usage"]


def past(api: Api, sub: str = "sub", **params: Any) -> Any:
    return api.get("/customers/cus/past_usage", external_subscription_id=sub, **params)


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def ready(api: Api, *charges: Any, customer: dict[str, Any] | None = None, **plan: Any) -> None:
    api.plan("pro", list(charges), **plan)
    api.customer(**(customer or {}))
    api.subscribe()


CURRENT = "/customers/cus/current_usage"


class TestRefusals:
    def test_an_unknown_customer(self, api):
        path = "/customers/nobody/current_usage"
        assert api.code(404, "GET", path, external_subscription_id="sub") == "resource_not_found"

    def test_no_active_subscription(self, api):
        ready(api)
        api.customer("other")
        api.post(
            "/subscriptions",
            {"subscription": {"external_customer_id": "other", "plan_code": "pro", "external_id": "theirs"}},
        )
        api.subscribe("later", subscription_at="2024-06-01T00:00:00Z")
        assert api.code(405, "GET", CURRENT) == "no_active_subscription"
        for sub in ("unknown", "theirs", "later"):
            assert api.code(405, "GET", CURRENT, external_subscription_id=sub) == "no_active_subscription"
        api.delete("/subscriptions/sub")
        assert api.code(405, "GET", CURRENT, external_subscription_id="sub") == "no_active_subscription"

    def test_nobody_sees_another_organization(self, api, stranger):
        ready(api)
        stranger.customer()
        assert stranger.code(405, "GET", CURRENT, external_subscription_id="sub") == "no_active_subscription"
        assert past(stranger)["usage_periods"] == []

    def test_no_such_charge(self, api):
        ready(api, charge(api.metric()))
        for search in (
            {"charge_id": "11111111-1111-4111-8111-111111111111"},
            {"charge_id": "junk"},
            {"charge_code": "junk"},
            {"billable_metric_code": "junk"},
            {"charge_id": "junk", "charge_code": "tokens"},
        ):
            assert (
                api.code(404, "GET", CURRENT, external_subscription_id="sub", **search) == "charge_not_found"
            )

    def test_full_usage_of_everything(self, api):
        ready(api, charge(api.metric()))
        code = api.code(405, "GET", CURRENT, external_subscription_id="sub", full_usage="true")
        assert code == "full_usage_not_allowed"


def test_a_plan_without_charges_has_no_usage(api):
    ready(api, customer={"currency": "EUR"})
    assert usage(api) == {
        "from_datetime": "2024-03-05T10:00:00Z",
        "to_datetime": "2024-03-31T23:59:59Z",
        "issuing_date": "2024-03-31",
        "currency": "EUR",
        "amount_cents": 0,
        "taxes_amount_cents": 0,
        "total_amount_cents": 0,
        "lago_invoice_id": None,
        "charges_usage": [],
    }


def test_dates_are_the_customers(api):
    ready(api, customer={"timezone": "America/Los_Angeles"})
    found = usage(api)
    assert (found["to_datetime"], found["issuing_date"]) == ("2024-04-01T06:59:59Z", "2024-03-31")


def test_charges_are_in_the_order_of_their_metrics_names(api):
    metrics = [api.metric(code, name=name) for code, name in [("a", "zebra"), ("b", "Apple"), ("c", "mango")]]
    ready(api, *map(charge, metrics))
    assert [each["billable_metric"]["name"] for each in usage(api)["charges_usage"]] == [
        "Apple",
        "mango",
        "zebra",
    ]


def test_a_search_for_a_charge(api, send):
    one, two = api.metric("one"), api.metric("two")
    plan = api.plan("pro", [charge(one), charge(two, code="second"), charge(one, properties={"amount": "2"})])
    api.customer()
    api.subscribe()
    send("one", tokens=3)
    whole = usage(api)
    assert (whole["amount_cents"], len(whole["charges_usage"])) == (900, 3)
    by_metric = usage(api, billable_metric_code="one")
    assert [each["amount_cents"] for each in by_metric["charges_usage"]] == [300, 600]
    by_code = usage(api, charge_code="second", billable_metric_code="one")
    assert [each["charge"]["code"] for each in by_code["charges_usage"]] == ["second"]
    last = plan["charges"][2]["lago_id"]
    by_id = usage(api, charge_id=last, charge_code="second")
    assert [each["charge"]["lago_id"] for each in by_id["charges_usage"]] == [last]
    assert by_id["amount_cents"] == 600


def test_only_events_of_the_period_and_recurring_ones_of_all_time(api, send):
    seats = api.metric("seats", aggregation_type="unique_count_agg", recurring=True)
    ready(api, charge(api.metric()), charge(seats))
    for at in (
        START - timedelta(microseconds=1),
        START,
        datetime(2024, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ):
        send(at=at, tokens=1)
    send(at=datetime(2024, 4, 1, tzinfo=UTC), tokens=100)
    send("seats", at=datetime(2020, 1, 1, tzinfo=UTC), tokens="a")
    send("seats", at=datetime(2024, 4, 1, tzinfo=UTC), tokens="b")
    seats_usage, tokens_usage = usage(api)["charges_usage"]
    assert (tokens_usage["units"], tokens_usage["events_count"]) == ("2.0", 2)
    assert seats_usage["units"] == "1.0"


def test_full_usage_is_that_of_all_periods(api, send):
    ready(api, charge(api.metric()))
    send(tokens=1)
    move(api, 2024, 4, 10)
    send(at=datetime(2024, 4, 9, tzinfo=UTC), tokens=2)
    assert usage(api)["charges_usage"][0]["units"] == "2.0"
    found = usage(api, charge_code="tokens", full_usage="true")
    assert (found["from_datetime"], found["to_datetime"]) == ("2024-03-05T10:00:00Z", "2024-04-30T23:59:59Z")
    assert found["charges_usage"][0]["units"] == "3.0"


def test_units_have_every_digit(api, send):
    ready(api, charge(api.metric()))
    send(tokens="12345678901234567890.123456789")
    send(tokens="0.000000001")
    (found,) = usage(api)["charges_usage"]
    assert found["units"] == found["total_aggregated_units"] == "12345678901234567890.12345679"


@pytest.mark.parametrize(
    ("aggregation", "units"),
    [("max_agg", "7.0"), ("latest_agg", "2.0"), ("sum_agg", "14.0"), ("count_agg", "3.0")],
)
def test_aggregations(api, send, aggregation, units):
    ready(api, charge(api.metric(aggregation_type=aggregation)))
    for minute, tokens in enumerate([5, 7, 2]):
        send(at=START + timedelta(minutes=minute), tokens=tokens)
    assert usage(api)["charges_usage"][0]["units"] == units


def test_fees_show_what_invoices_show_and_past_usage_all_of_it(api, send):
    keys = [{"value": "team"}, {"value": "region", "options": {"display_in_invoice": True}}]
    price = {"amount": "1", "pricing_group_keys": ["user"], "presentation_group_keys": keys}
    ready(api, charge(api.metric(), properties=price, min_amount_cents=5000))
    for user, team, region, tokens in [
        ("a", "x", "eu", 1),
        ("a", "y", "eu", 2),
        ("a", "y", "us", 4),
        ("b", "x", None, 8),
    ]:
        send(user=user, team=team, region=region, tokens=tokens)
    current = usage(api)["charges_usage"][0]["grouped_usage"]
    move(api, 2024, 4, 1)
    (billed,) = past(api)["usage_periods"]
    groups = {each["grouped_by"].get("user"): each for each in billed["charges_usage"][0]["grouped_usage"]}
    assert [groups[user]["presentation_breakdowns"] for user in "ab"] == [
        each["presentation_breakdowns"] for each in current
    ]
    assert groups["a"]["presentation_breakdowns"][1] == {
        "presentation_by": {"team": "y", "region": "eu"},
        "units": "2.0",
    }
    fees = api.get(f"/invoices/{billed['lago_invoice_id']}")["invoice"]["fees"]
    shown = [
        [(each["presentation_by"], each["units"]) for each in fee["presentation_breakdowns"]] for fee in fees
    ]
    assert shown == [
        [],
        [({"region": "eu"}, "3.0"), ({"region": "us"}, "4.0")],
        [({"region": ""}, "8.0")],
        [],
    ]


def test_a_fee_in_advance_shows_its_event(api, send):
    keys = [{"value": "region", "options": {"display_in_invoice": True}}]
    price = {"amount": "1", "presentation_group_keys": keys}
    ready(api, charge(api.metric(), properties=price, pay_in_advance=True, invoiceable=False))
    body = {"code": "tokens", "external_subscription_id": "sub", "properties": {"tokens": 3, "region": "eu"}}
    (estimate,) = api.post("/events/estimate_fees", {"event": body})["fees"]
    assert estimate["presentation_breakdowns"] == [{"presentation_by": {"region": "eu"}, "units": "3.0"}]


@pytest.mark.parametrize("aggregation", ["sum_agg", "unique_count_agg"])
def test_of_what_recurs_the_minimum_charge_of_an_event_is_due_in_its_period_alone(api, send, aggregation):
    price = {"rate": "0", "per_transaction_min_amount": "0.5"}
    stock = api.metric(aggregation_type=aggregation, recurring=True)
    ready(api, charge(stock, charge_model="percentage", properties=price))
    for tokens in (3, 4, 5):
        send(tokens=tokens)
    assert usage(api)["amount_cents"] == 150
    move(api, 2024, 4, 10)
    send(at=datetime(2024, 4, 9, tzinfo=UTC), tokens=6)
    (used,) = usage(api)["charges_usage"]
    assert (used["units"], used["amount_cents"]) == ({"sum_agg": "18.0"}.get(aggregation, "4.0"), 50)
    move(api, 2024, 5, 1)
    assert [each["amount_cents"] for each in past(api)["usage_periods"]] == [50, 150]


def test_the_summed_property_may_distinguish_events_too(api, send):
    sizes = api.metric("sizes", field_name="size", filters=[{"key": "size", "values": ["512", "1024"]}])
    large = {"values": {"size": ["1024"]}, "properties": {"amount": "3"}}
    grouped = {"amount": "1", "pricing_group_keys": ["size"]}
    ready(api, charge(sizes, properties=grouped, filters=[large]))
    sent: list[Any] = [
        {"size": 512},
        {"size": "512", "note": "x"},
        {"size": "0512"},
        {"size": 1024},
        {"size": "big"},
    ]
    for properties in sent:
        send("sizes", **properties)
    (used,) = usage(api)["charges_usage"]
    assert [(each["units"], each["amount_cents"]) for each in used["filters"]] == [
        ("1024.0", 307_200),
        ("1536.0", 153_600),
    ]
    groups = {each["grouped_by"].get("size"): each["units"] for each in used["grouped_usage"]}
    assert groups == {None: "1024.0", "512": "1024.0", "0512": "512.0"}
    stored = api.get("/events", external_subscription_id="sub", per_page=10)["events"]
    assert len(stored) == len(sent)
    assert all(each["properties"] in sent for each in stored)


def test_presentation_over_http(api, send):
    keys = {"presentation_group_keys": [{"value": "team"}]}
    ready(api, charge(api.metric(), properties={"amount": "1", **keys}))
    for team, tokens in [("red", 1), ("blue", 2), ("red", 4)]:
        send(tokens=tokens, team=team)
    (found,) = usage(api)["charges_usage"]
    assert found["presentation_breakdowns"] == [
        {"presentation_by": {"team": "blue"}, "units": "2.0"},
        {"presentation_by": {"team": "red"}, "units": "5.0"},
    ]


def test_a_move_to_another_timezone_neither_loses_nor_doubles_an_hour(api, send):
    """Billed up to midnight of Los Angeles, then moved to Berlin: usage goes on from what is billed."""
    ready(api, charge(api.metric()), customer={"timezone": "America/Los_Angeles"})
    move(api, 2024, 4, 2)
    billed_until = datetime(2024, 4, 1, 7, tzinfo=UTC)
    send(at=billed_until - timedelta(hours=1), tokens=1)
    send(at=billed_until, tokens=2)
    api.customer(timezone="Europe/Berlin")
    found = usage(api)
    assert (found["from_datetime"], found["to_datetime"]) == ("2024-04-01T07:00:00Z", "2024-04-30T21:59:59Z")
    assert found["charges_usage"][0]["units"] == "2.0"


DIMENSIONS = [{"key": "model", "values": ["8K", "32K"]}, {"key": "type", "values": ["input", "output"]}]


def tokens_charge(api: Api) -> Any:
    def package(amount: str, **more: Any) -> dict[str, Any]:
        return {"amount": amount, "package_size": 1000, "free_units": 0, **more}

    filters = [
        {
            "invoice_display_name": "8K input",
            "values": {"model": ["8K"], "type": ["input"]},
            "properties": package("0.03"),
        },
        {
            "invoice_display_name": "32K",
            "values": {"model": ["32K"], "type": ["__ALL_FILTER_VALUES__"]},
            "properties": package("0.0015", pricing_group_keys=["team"]),
        },
    ]
    return charge(
        api.metric(filters=DIMENSIONS), charge_model="package", properties=package("0.007"), filters=filters
    )


def comparable(period: Any) -> list[Any]:
    """What current usage, at the end of its period, and past usage must agree on."""
    return [
        (
            each["charge"],
            each["billable_metric"],
            each["units"],
            each["events_count"],
            each["amount_cents"],
            [line for line in each["filters"] if line["events_count"]],
            [line for line in each["grouped_usage"] if line["events_count"]],
        )
        for each in period["charges_usage"]
    ]


@pytest.mark.parametrize("seed", range(4))
def test_the_invoice_says_what_current_usage_said(api, send, seed):
    chance = random.Random(seed)
    ready(api, tokens_charge(api), charge(api.metric("calls", aggregation_type="count_agg")))
    for _ in range(60):
        at = START + timedelta(seconds=chance.randrange(26 * 86_400))
        send(
            at=at,
            model=chance.choice(["8K", "32K", "128K"]),
            type=chance.choice(["input", "output", "other"]),
            team=chance.choice(["red", "blue", ""]),
            tokens=chance.randrange(3_000),
        )
        if chance.random() < 0.3:
            send("calls", at=at)
    move(api, 2024, 3, 31, 23, 59)
    before = usage(api)
    assert past(api)["usage_periods"] == []
    move(api, 2024, 4, 1, 1)
    (after,) = past(api)["usage_periods"]
    assert comparable(after) == comparable(before)
    for key in ("from_datetime", "to_datetime", "currency", "amount_cents", "total_amount_cents"):
        assert after[key] == before[key]
    assert after["lago_invoice_id"]
    assert usage(api)["amount_cents"] == 0


class TestPastUsage:
    def test_parameters(self, api):
        ready(api, charge(api.metric()))
        path = "/customers/cus/past_usage"
        assert api.details("GET", path, None) == {"external_subscription_id": ["value_is_mandatory"]}
        assert (
            api.code(404, "GET", path, external_subscription_id="sub", billable_metric_code="junk")
            == "billable_metric_not_found"
        )
        for unknown in (
            past(api, "unknown"),
            api.get("/customers/nobody/past_usage", external_subscription_id="sub"),
        ):
            assert unknown == {
                "usage_periods": [],
                "meta": {
                    "current_page": 0,
                    "next_page": None,
                    "prev_page": None,
                    "total_pages": 0,
                    "total_count": 0,
                },
            }

    def test_pages_newest_first(self, api, send):
        ready(api, charge(api.metric()))
        for month in range(3, 7):
            send(at=datetime(2024, month, 20, tzinfo=UTC), tokens=month)
        move(api, 2024, 7, 2)

        def months(**params: Any) -> list[str]:
            return [each["from_datetime"][5:7] for each in past(api, **params)["usage_periods"]]

        assert months() == ["06", "05", "04", "03"]
        assert months(per_page=2) == ["06", "05"]
        assert months(per_page=2, page=2) == ["04", "03"]
        assert months(periods_count=3, per_page=1) == ["06", "05", "04"]
        assert months(periods_count="junk", per_page=1) == ["06"]
        assert past(api, periods_count=1)["meta"]["total_pages"] == 4

    def test_amounts_are_the_invoices_and_charges_the_subscriptions_own(self, api, send):
        """Two subscriptions and their fees are on one invoice; Lago gives each period the whole of it."""
        ready(api, charge(api.metric()), amount_cents=31_00)
        api.subscribe("sub2")
        send(tokens=1)
        send(sub="sub2", tokens=2)
        move(api, 2024, 4, 1, 12)
        (mine,), (other,) = past(api)["usage_periods"], past(api, "sub2")["usage_periods"]
        fees = 2 * 27_00 + 300
        assert mine["lago_invoice_id"] == other["lago_invoice_id"]
        assert mine["amount_cents"] == other["amount_cents"] == fees
        assert [each["amount_cents"] for each in mine["charges_usage"]] == [100]
        assert [each["amount_cents"] for each in other["charges_usage"]] == [200]

    def test_idle_charges_are_absent_and_deleted_ones_stay(self, api, send):
        gone, kept = api.metric("gone"), api.metric("kept")
        ready(api, charge(gone), charge(kept), charge(api.metric("idle")))
        send("gone", tokens=1)
        send("kept", tokens=2)
        move(api, 2024, 4, 1, 12)
        api.delete("/billable_metrics/gone")
        (period,) = past(api)["usage_periods"]
        assert [each["billable_metric"]["code"] for each in period["charges_usage"]] == ["gone", "kept"]
        (narrowed,) = past(api, billable_metric_code="kept")["usage_periods"]
        assert [each["billable_metric"]["code"] for each in narrowed["charges_usage"]] == ["kept"]
        assert narrowed["amount_cents"] == period["amount_cents"] == 300
