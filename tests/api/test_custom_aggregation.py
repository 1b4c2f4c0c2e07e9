"""Custom aggregations and the custom charge model over HTTP: what is refused, and every place that reads usage."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.usage import levels
from tests.core.test_custom_aggregation import PRICES, TIERED_UNITS, TIERS

from .conftest import START, Api, charge, plan_body
from .test_usage import move, past, ready, usage

SUM = "state.total_units + event.properties.n"
RULES = {"total_units": SUM, "amount": "event.properties.n * custom_properties.price"}
_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store an event of the subscription `sub`; its transaction id."""
    conn, memory = open_connection(dsn), Memory()

    def one(at: datetime = START, code: str = "calls", **properties: Any) -> str:
        name = f"custom-{next(_numbers)}"
        draft = Draft(name, code, "sub", microseconds(at), None, properties)
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])
        return name

    yield one
    conn.close()


def at(day: int, hour: int = 12, month: int = 3) -> datetime:
    return datetime(2024, month, day, hour, tzinfo=UTC)


def body(**fields: Any) -> dict[str, Any]:
    given = {
        "name": "Calls",
        "code": "calls",
        "aggregation_type": "custom_agg",
        "custom_aggregator": RULES,
        **fields,
    }
    return {"billable_metric": {name: value for name, value in given.items() if value is not None}}


def metric(api: Api, **fields: Any) -> Any:
    return api.post("/billable_metrics", body(**fields))["billable_metric"]


def priced(of: Any, price: Any = "0.5", **fields: Any) -> dict[str, Any]:
    """A custom charge."""
    properties = {"custom_properties": {"price": price}, **fields.pop("properties", {})}
    return charge(of, charge_model="custom", properties=properties, **fields)


def figures(found: Any) -> tuple[str, int, int]:
    return found["units"], found["amount_cents"], found["events_count"]


def line(api: Api, **params: Any) -> tuple[str, int, int]:
    (found,) = usage(api, **params)["charges_usage"]
    return figures(found)


class TestMetric:
    def test_is_kept_and_shown(self, api):
        made = metric(api, recurring=True, rounding_function="ceil")
        assert made["custom_aggregator"] == RULES
        assert (made["field_name"], made["recurring"]) == (None, True)
        assert api.get("/billable_metrics/calls")["billable_metric"]["custom_aggregator"] == RULES
        assert api.get("/billable_metrics")["billable_metrics"][0]["custom_aggregator"] == RULES
        assert "custom_aggregator" not in api.metric("other")

    @pytest.mark.parametrize(
        ("fields", "details"),
        [
            ({"custom_aggregator": None}, {"custom_aggregator": ["value_is_mandatory"]}),
            ({"custom_aggregator": {}}, {"custom_aggregator": ["value_is_mandatory"]}),
            ({"custom_aggregator": "1"}, {"custom_aggregator": ["value_is_invalid"]}),
            ({"custom_aggregator": {"amount": "1"}}, {"total_units": ["value_is_mandatory"]}),
            ({"custom_aggregator": {"total_units": {}}}, {"total_units": ["value_is_invalid"]}),
            ({"custom_aggregator": {"total_units": "1" * 5001}}, {"total_units": ["value_is_too_long"]}),
            (
                {"custom_aggregator": {"total_units": "1 +", "amount": "if(1, 2, 3)"}},
                {
                    "total_units": ["invalid_expression", "Unexpected end at character 4"],
                    "amount": ["invalid_expression", "Expected a comparison, found ',' at character 5"],
                },
            ),
            (
                {"aggregation_type": "count_agg"},
                {"custom_aggregator": ["value_must_be_blank"]},
            ),
        ],
    )
    def test_rules(self, api, fields, details):
        assert api.details("POST", "/billable_metrics", body(**fields)) == details

    def test_changes_until_it_is_priced(self, api):
        made = metric(api)
        path = "/billable_metrics/calls"
        other = {"total_units": "state.total_units + 1"}
        changed = api.put(path, {"billable_metric": {"custom_aggregator": other}})["billable_metric"]
        assert changed["custom_aggregator"] == other
        assert api.put(path, {"billable_metric": {"name": "C"}})["billable_metric"]["name"] == "C"
        count = api.put(path, {"billable_metric": {"aggregation_type": "count_agg"}})["billable_metric"]
        assert "custom_aggregator" not in count
        to_custom = {"billable_metric": {"aggregation_type": "custom_agg"}}
        assert api.details("PUT", path, to_custom) == {"custom_aggregator": ["value_is_mandatory"]}
        api.put(path, {"billable_metric": {**to_custom["billable_metric"], "custom_aggregator": other}})
        api.plan(charges=[charge(made)])
        kept = api.put(path, {"billable_metric": {"custom_aggregator": RULES}})["billable_metric"]
        assert kept["custom_aggregator"] == other

    def test_events_expressions_stay_lagos(self, api):
        for text in ("if(1 = 1, 2, 3)", "state.total_units"):
            asked = {"expression": text, "event": {"code": "c", "properties": {}}}
            assert api.details("POST", "/billable_metrics/evaluate_expression", asked) == {
                "expression": ["invalid_expression"]
            }
            refused = body(
                aggregation_type="sum_agg", field_name="n", custom_aggregator=None, expression=text
            )
            assert api.details("POST", "/billable_metrics", refused) == {"expression": ["invalid_expression"]}


class TestCharge:
    @pytest.mark.parametrize(
        ("fields", "details"),
        [
            ({"properties": {}}, {"properties": ["missing_custom_properties"]}),
            ({"charge_model": "standard"}, {"properties": ["invalid_amount"]}),
            (
                {"charge_model": "standard", "properties": {"amount": "1"}},
                {"properties": ["missing_custom_properties"]},
            ),
            (
                {"properties": {"custom_properties": {"price": [1]}}},
                {"properties": ["invalid_custom_properties"]},
            ),
            ({"properties": {"custom_properties": [1]}}, {"properties": ["invalid_custom_properties"]}),
            (
                {"filters": [{"values": {"model": ["8K"]}, "properties": {}}]},
                {"properties": ["missing_custom_properties"]},
            ),
            (
                {
                    "charge_model": "volume",
                    "pay_in_advance": True,
                    "properties": {
                        "custom_properties": {"price": 1},
                        "volume_ranges": [
                            {"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"}
                        ],
                    },
                },
                {"pay_in_advance": ["invalid_aggregation_type_or_charge_model"]},
            ),
            (
                {
                    "charge_model": "volume",
                    "prorated": True,
                    "properties": {"custom_properties": {"price": 1}},
                },
                {
                    "prorated": ["invalid_billable_metric_or_charge_model"],
                    "properties": ["missing_volume_ranges"],
                },
            ),
        ],
    )
    def test_refused(self, api, fields, details):
        of = metric(api, recurring=True, filters=[{"key": "model", "values": ["8K"]}])
        refused = {**priced(of), **fields}
        assert api.details("POST", "/plans", {"plan": _plan(refused)}) == details

    def test_a_filter_has_what_the_rules_look_at(self, api):
        of = metric(api, filters=[{"key": "model", "values": ["8K"]}])
        api.plan(charges=[priced(of)])
        path = "/plans/pro/charges/calls/filters"
        missing = {"properties": ["missing_custom_properties"]}
        values = {"values": {"model": ["8K"]}}
        assert api.details("POST", path, {"filter": {**values, "properties": {}}}) == missing
        own = {"properties": {"custom_properties": {"price": "2"}}}
        made = api.post(path, {"filter": {**values, **own}})["filter"]
        assert made["properties"] == own["properties"]
        other = {"filter": {"properties": {"custom_properties": {"prize": 1}}}}
        assert api.details("PUT", f"{path}/{made['lago_id']}", other) == missing

    def test_a_subscription_has_its_own_properties(self, api, send):
        ready(api, priced(metric(api)))
        send(n=2)
        assert line(api) == ("2.0", 100, 1)
        body_ = {"charge": {"properties": {"custom_properties": {"price": "3"}}}}
        api.put("/subscriptions/sub/charges/calls", body_)
        assert line(api) == ("2.0", 600, 1)

    def test_only_on_custom_metrics(self, api):
        refused = {"plan": _plan(priced(api.metric()))}
        assert api.details("POST", "/plans", refused) == {
            "charge_model": ["invalid_aggregation_type_or_charge_model"]
        }

    def test_shows_its_properties(self, api):
        shown = api.plan(charges=[priced(metric(api), "0.25")])["charges"][0]
        assert (shown["charge_model"], shown["properties"]) == (
            "custom",
            {"custom_properties": {"price": "0.25"}},
        )
        other = charge(
            metric(api, code="c2"), properties={"amount": "1", "custom_properties": {"price": 1, "name": "x"}}
        )
        shown = api.plan("two", charges=[other])["charges"][0]
        assert shown["properties"]["custom_properties"] == {"price": 1, "name": "x"}
        plain = charge(api.metric(), properties={"amount": "1", "custom_properties": {"price": 1}})
        assert "custom_properties" not in api.plan("three", charges=[plain])["charges"][0]["properties"]


def _plan(one: Any) -> dict[str, Any]:
    return plan_body(charges=[one])


class TestUsage:
    def test_units_are_replaced_and_amounts_added_in_the_order_of_time(self, api, send):
        ready(
            api,
            priced(
                metric(
                    api,
                    custom_aggregator={"total_units": "event.properties.n", "amount": "state.total_units"},
                )
            ),
        )
        assert line(api) == ("0.0", 0, 0)
        send(at=at(6), n="7")
        send(at=at(5), n=5)
        send(at=at(7), n=2)
        assert line(api) == ("2.0", 1200, 3)
        send(at=at(7), n=9)  # of one instant, the last to arrive
        assert line(api) == ("9.0", 1400, 4)
        send(at=at(8), n="many")
        send(at=at(8))
        send(at=at(8), n=None)
        assert line(api) == ("9.0", 1400, 4)

    def test_properties_are_found_wherever_they_are_stored(self, api, send):
        """As a dimension, as the value of the metric, or in what is left."""
        rules = {
            "total_units": "state.total_units + event.properties.n + event.properties.size",
            "amount": "if(event.properties.model = '8K' and event.properties.paid = 'true', event.properties.made, 0)",
        }
        of = metric(
            api,
            custom_aggregator=rules,
            field_name="made",
            filters=[{"key": "model", "values": ["8K"]}],
        )
        ready(api, priced(of))
        send(n="3", size=0.5, model="8K", paid=True, made="6")
        send(n="3", size=1, model="8K", paid=False, made=5)
        assert line(api) == ("7.5", 600, 2)

    def test_filters_and_groups_are_reckoned_apart_with_their_own_properties(self, api, send):
        of = metric(api, filters=[{"key": "model", "values": ["8K", "32K"]}])
        cheap = {"values": {"model": ["8K"]}, "properties": {"custom_properties": {"price": "0.1"}}}
        grouped = {"pricing_group_keys": ["team"], "presentation_group_keys": [{"value": "region"}]}
        ready(api, priced(of, "1", filters=[cheap], properties=grouped))
        send(n=10, model="8K", team="a", region="eu")
        send(n=1, model="32K", team="a", region="eu")
        send(n=2, model="32K", team="a", region="us")
        send(n=4, team="b")
        send(n="none", team="c")
        (found,) = usage(api)["charges_usage"]
        assert figures(found) == ("17.0", 800, 4)
        assert [figures(each) for each in found["filters"]] == [("10.0", 100, 1), ("7.0", 700, 3)]
        groups = {
            each["grouped_by"].get("team"): (figures(each), each["presentation_breakdowns"])
            for each in found["grouped_usage"]
            if each["grouped_by"]
        }
        assert groups == {
            "a": (
                ("3.0", 300, 2),
                [
                    {"presentation_by": {"region": "eu"}, "units": "1.0"},
                    {"presentation_by": {"region": "us"}, "units": "2.0"},
                ],
            ),
            "b": (("4.0", 400, 1), [{"presentation_by": {"region": ""}, "units": "4.0"}]),
        }
        assert line(api, skip_grouping="true") == ("17.0", 800, 4)
        assert line(api, **{"group[team]": "b"}) == ("4.0", 400, 1)

    def test_a_period_begins_at_zero_and_what_recurs_goes_on(self, api, send):
        rules = {"total_units": SUM, "amount": "if(state.total_units = 0, 100, 1)"}
        metered = metric(api, custom_aggregator=rules)
        recurring = metric(api, code="seats", custom_aggregator=rules, recurring=True)
        ready(api, priced(metered), priced(recurring))
        for code in ("calls", "seats"):
            send(at(6), code, n=5)
            send(at(7), code, n=6)
            send(at(2, month=4), code, n=7)
        move(api, 2024, 3, 20)
        assert [figures(each) for each in usage(api)["charges_usage"]] == [("11.0", 10_100, 2)] * 2
        move(api, 2024, 4, 10)
        assert [figures(each) for each in usage(api)["charges_usage"]] == [
            ("7.0", 10_000, 1),
            ("18.0", 10_200, 3),
        ]
        (billed,) = past(api)["usage_periods"]
        assert sorted(figures(each) for each in billed["charges_usage"]) == [("11.0", 10_100, 2)] * 2

    def test_tiers_by_who_asked(self, api, send):
        """The worked example of docs/custom-aggregation.md."""
        of = metric(api, custom_aggregator={"total_units": TIERED_UNITS, "amount": TIERS})
        ready(api, charge(of, charge_model="custom", properties={"custom_properties": PRICES}))
        for party, n, cents in [
            ("first", 1, 12),
            ("first", 999, 12_000),
            ("third", 1, 12_012),
            ("first", 1, 12_022),
            ("first", 18_998, 202_002),
            ("first", 1, 202_010),
            ("first", 30_002, 442_020),
        ]:
            send(units=n, party=party)
            assert line(api)[1] == cents
        assert line(api)[0] == "50003.0"

    def test_projected(self, api, send):
        ready(api, priced(metric(api)))
        send(n=3)
        params = {"external_subscription_id": "sub"}
        found = api.get("/customers/cus/projected_usage", **params)["customer_projected_usage"]
        (one,) = found["charges_usage"]
        # The subscription began on the first of these 27 days.
        assert (one["projected_units"], one["projected_amount_cents"]) == ("81.0", 4050)

    def test_other_models_price_the_rounded_units(self, api, send):
        of = metric(api, rounding_function="ceil", custom_aggregator={"total_units": SUM})
        ready(api, charge(of, properties={"amount": "2"}))
        send(n="1.5")
        send(n="1.2")
        assert line(api) == ("3.0", 600, 2)

    def test_by_day(self, api, send):
        rules = {"total_units": "greatest(state.total_units, event.properties.n)"}
        metered = metric(api, custom_aggregator=rules)
        recurring = metric(api, code="seats", custom_aggregator=rules, recurring=True)
        ready(api, priced(metered), priced(recurring))
        for code in ("calls", "seats"):
            send(at(6), code, n=5)
            send(at(7), code, n=8)
            send(at(7), code, n=6)
            send(at(1, month=4), code, n=2)
        move(api, 2024, 4, 3)
        path = "/subscriptions/sub/daily_usage"

        def units(code: str, first: str, last: str) -> list[tuple[str, int]]:
            days = api.get(path, billable_metric_code=code, from_date=first, to_date=last)["daily_usage"]
            lines = [each["charges_usage"][0] for each in days]
            return [(each["units"], each["events_count"]) for each in lines]

        assert units("calls", "2024-03-06", "2024-03-08") == [("5.0", 1), ("3.0", 2), ("0.0", 0)]
        assert units("calls", "2024-03-31", "2024-04-02") == [("0.0", 0), ("2.0", 1), ("0.0", 0)]
        assert units("seats", "2024-03-06", "2024-03-08") == [("5.0", 1), ("8.0", 2), ("8.0", 0)]
        assert units("seats", "2024-03-31", "2024-04-02") == [("8.0", 0), ("8.0", 1), ("8.0", 0)]

    def test_it_is_the_same_before_and_after_the_roll_up(self, api, send, dsn):
        ready(api, priced(metric(api)))
        for n in range(5):
            send(n=n)
        before = line(api)
        with open_connection(dsn) as conn:
            conn.autocommit = True
            rollup.roll_up(conn)
        assert line(api) == before == ("10.0", 500, 5)


class TestInvoice:
    def test_is_explained_amended_and_reckoned_again(self, api, send):
        ready(api, priced(metric(api)))
        send(at(6), n=10)
        wrong = send(at(7), n=100)
        move(api, 2024, 4, 1, 1)
        (fee,) = api.get("/fees", fee_type="charge")["fees"]
        assert (fee["units"], fee["amount_cents"], fee["events_count"]) == ("110.0", 5500, 2)
        path = f"/fees/{fee['lago_id']}/explanation"
        found = api.get(path)["fee_explanation"]
        assert [(step["text"], step["amount"]) for step in found["formula"]][:1] == [
            ("what the metric's own rule adds for each event, of 110 units", "55.0")
        ]
        assert (found["recomputed"]["is_same"], found["events"]["count"]) == (True, 2)
        asked = {
            "transaction_id": "fix-1",
            "event_transaction_id": wrong,
            "external_subscription_id": "sub",
            "kind": "void",
            "reason": "It was never asked for",
        }
        api.post("/events/amendments", {"amendment": asked})
        found = api.get(path)["fee_explanation"]
        assert (found["recomputed"]["is_same"], found["events"]["count"]) == (False, 1)
        assert (found["recomputed"]["units"], found["recomputed"]["amount_cents"]) == ("10.0", 500)


def in_advance(of: Any, price: Any = "0.5", **fields: Any) -> dict[str, Any]:
    """A custom charge whose events make fees without invoices."""
    return priced(of, price, pay_in_advance=True, invoiceable=False, **fields)


def fees(api: Api) -> list[Any]:
    """In the order in which they were made, those of one instant in that of their events."""
    found: list[Any] = api.get("/fees", fee_type="charge")["fees"]
    number = {fee["lago_id"]: int((fee["event_transaction_id"] or "-0").split("-")[1]) for fee in found}
    return sorted(found, key=lambda fee: (fee["created_at"], number[fee["lago_id"]]))


def amounts(api: Api) -> list[tuple[str, int]]:
    return [(fee["units"], fee["amount_cents"]) for fee in fees(api)]


def bill(api: Api) -> None:
    """What waits, at the instant that the clock shows."""
    api.put("/test_clock", {"test_clock": api.get("/test_clock")["test_clock"]})


@pytest.fixture(params=["from all events", "from kept levels"])
def keeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "from kept levels":
        monkeypatch.setattr(levels, "LEAST_KEPT", 1)


@pytest.mark.usefixtures("keeping")
class TestInAdvance:
    def test_the_worked_example(self, api, send):
        """Each event makes a fee of what it adds, and current usage shows what they come to."""
        of = metric(api, custom_aggregator={"total_units": TIERED_UNITS, "amount": TIERS})
        properties = {"custom_properties": PRICES}
        ready(
            api,
            charge(of, charge_model="custom", pay_in_advance=True, invoiceable=False, properties=properties),
        )
        total = 0
        for party, n, cents in [
            ("first", 1, 12),
            ("first", 999, 12_000),
            ("third", 1, 12_012),
            ("first", 1, 12_022),
            ("first", 18_998, 202_002),
            ("first", 1, 202_010),
            ("first", 30_002, 442_020),
        ]:
            send(units=n, party=party)
            bill(api)
            fee = fees(api)[-1]
            assert (fee["units"], fee["amount_cents"]) == (f"{n}.0", cents - total)
            assert (fee["pay_in_advance"], fee["events_count"]) == (True, 1)
            total = cents
            assert line(api)[1] == cents
        assert line(api) == ("50003.0", 442_020, 7)

    def test_what_falls_gives_nothing_back_and_what_comes_back_is_free(self, api, send):
        """The example of docs/custom-aggregation.md."""
        ready(api, in_advance(metric(api), "0.5"))
        for n in (5, -3, 2, "many", 4):
            send(n=n)
        bill(api)
        assert amounts(api) == [("5.0", 250), ("0.0", 0), ("2.0", 0), ("3.0", 150)]
        assert line(api) == ("8.0", 400, 4)
        send(n=-6)
        assert line(api) == ("2.0", 400, 5)

    def test_an_amount_may_rise_while_the_units_do_not(self, api, send):
        rules = {"total_units": "event.properties.n", "amount": "state.total_units"}
        ready(api, in_advance(metric(api, custom_aggregator=rules)))
        for n in (7, 3, 4):
            send(n=n)
        bill(api)
        assert amounts(api) == [("7.0", 0), ("0.0", 700), ("1.0", 300)]
        assert line(api) == ("4.0", 1000, 3)

    def test_events_count_in_the_order_of_arrival(self, api, send):
        rules = {"total_units": "event.properties.n", "amount": "state.total_units"}
        ready(api, in_advance(metric(api, custom_aggregator=rules)))
        send(at(6), n=10)
        bill(api)
        send(at(5), n=3)
        bill(api)
        send(at(7), n=5)
        bill(api)
        assert amounts(api) == [("10.0", 0), ("0.0", 1000), ("2.0", 300)]
        assert line(api) == ("5.0", 1300, 3)

    def test_filters_and_groups_have_levels_of_their_own(self, api, send):
        of = metric(api, filters=[{"key": "model", "values": ["8K"]}])
        cheap = {"values": {"model": ["8K"]}, "properties": {"custom_properties": {"price": "0.1"}}}
        ready(api, in_advance(of, "1", filters=[cheap], properties={"pricing_group_keys": ["team"]}))
        for properties in (
            {"n": 10, "model": "8K", "team": "a"},
            {"n": 4, "team": "a"},
            {"n": -4, "team": "a"},
            {"n": 3, "team": "b"},
            {"n": 2, "team": "a"},
        ):
            send(**properties)
        bill(api)
        assert amounts(api) == [("10.0", 100), ("4.0", 400), ("0.0", 0), ("3.0", 300), ("2.0", 0)]
        (found,) = usage(api)["charges_usage"]
        assert figures(found) == ("15.0", 800, 5)
        # Priced as one group, the highest that they stood at together.
        assert line(api, skip_grouping="true") == ("15.0", 600, 5)
        assert line(api, **{"group[team]": "b"}) == ("3.0", 300, 1)

    def test_properties_are_found_wherever_they_are_stored(self, api, send):
        rules = {
            "total_units": "state.total_units + event.properties.n + event.properties.size",
            "amount": "if(event.properties.model = '8K' and event.properties.paid = 'true', event.properties.made, 0)",
        }
        of = metric(
            api,
            custom_aggregator=rules,
            field_name="made",
            filters=[{"key": "model", "values": ["8K"]}],
        )
        ready(api, in_advance(of))
        send(n="3", size=0.5, model="8K", paid=True, made="6")
        send(n="3", size=1, model="8K", paid=False, made=5)
        bill(api)
        assert amounts(api) == [("3.5", 600), ("4.0", 0)]

    def test_other_models_price_the_highest_units(self, api, send):
        of = metric(api, custom_aggregator={"total_units": SUM})
        tiers = [
            {"from_value": 0, "to_value": 5, "per_unit_amount": "3", "flat_amount": "10"},
            {"from_value": 6, "to_value": None, "per_unit_amount": "1", "flat_amount": "4"},
        ]
        fields = {"pay_in_advance": True, "charge_model": "graduated"}
        ready(api, charge(of, properties={"graduated_ranges": tiers}, **fields))
        for n in (4, 3, -2, 3):
            send(n=n)
        bill(api)
        assert amounts(api) == [("4.0", 2200), ("3.0", 900), ("0.0", 0), ("1.0", 100)]
        assert line(api) == ("8.0", 3200, 4)

    def test_what_recurs_goes_on_and_is_renewed(self, api, send):
        rules = {
            "total_units": SUM,
            "amount": "event.properties.n * custom_properties.price + state.total_units",
        }
        ready(api, in_advance(metric(api, custom_aggregator=rules, recurring=True), "2"))
        send(at(6), n=5)
        send(at(7), n=-2)
        bill(api)
        assert amounts(api) == [("5.0", 1000), ("0.0", 100)]
        move(api, 2024, 4, 2)
        # 3 units stand at an amount of 10 - 4 + 5 = 11, which is paid for April too.
        assert amounts(api)[2:] == [("3.0", 1100)]
        send(at(3, month=4), n=-4)
        send(at(4, month=4), n=8)
        move(api, 2024, 4, 5)
        # The amount falls to 11 - 8 + 3 = 6, then rises to 6 + 16 - 1 = 21.
        assert amounts(api)[3:] == [("0.0", 0), ("4.0", 1000)]
        assert line(api) == ("7.0", 2100, 4)
        # What comes late for March counts in what stood when April began.
        send(at(8), n=1)
        move(api, 2024, 4, 6)
        send(at(6, month=4), n=1)
        bill(api)
        # 4 units at 16 stood; then 0 at 12, 8 at 28, 9 at 38: the last alone makes a fee now.
        assert amounts(api)[-1] == ("1.0", 1000)
        assert line(api) == ("9.0", 3800, 6)

    def test_an_amount_is_renewed_without_units(self, api, send):
        rules = {"total_units": "0", "amount": "event.properties.n"}
        of = metric(api, custom_aggregator=rules, recurring=True)
        ready(api, in_advance(of))
        send(at(6), n=5)
        move(api, 2024, 4, 2)
        send(at(2, month=4), n=2)
        bill(api)
        assert amounts(api) == [("0.0", 500), ("0.0", 500), ("0.0", 200)]
        assert line(api) == ("0.0", 700, 2)

    def test_is_invoiced_explained_amended_and_reckoned_again(self, api, send):
        ready(api, priced(metric(api), pay_in_advance=True))
        wrong = send(at(6), n=10)
        send(at(7), n=4)
        bill(api)
        invoices = api.get("/invoices")["invoices"]
        assert sorted(each["fees_amount_cents"] for each in invoices) == [200, 500]
        (fee,) = (each for each in fees(api) if each["amount_cents"] == 200)
        found = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]
        assert (found["recomputed"]["is_same"], found["events"]["count"]) == (True, 1)
        asked = {
            "transaction_id": f"{wrong}-fix",
            "event_transaction_id": wrong,
            "external_subscription_id": "sub",
            "kind": "replace",
            "reason": "It was less",
            "properties": {"n": -3},
        }
        api.post("/events/amendments", {"amendment": asked})
        found = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]["recomputed"]
        assert (found["is_same"], found["units"], found["amount_cents"]) == (False, "1.0", 50)
        assert line(api) == ("1.0", 50, 2)

    def test_an_estimate_is_what_the_event_will_cost(self, api, send):
        rules = {"total_units": SUM, "amount": "event.properties.n * (1 + state.total_units)"}
        ready(api, in_advance(metric(api, custom_aggregator=rules)))
        for n, cents in ((2, 200), (-1, 0), (3, 300), ("many", 0)):
            event = {"code": "calls", "external_subscription_id": "sub", "properties": {"n": n}}
            (told,) = api.post("/events/estimate_fees", {"event": event})["fees"]
            assert told["amount_cents"] == cents
            send(n=n)
            bill(api)
        assert [cents for _, cents in amounts(api)] == [200, 0, 300]

    def test_an_instant_estimate_runs_the_rules_once(self, api, send):
        of = metric(api, custom_aggregator={"total_units": "state.total_units + event.properties.n * 2"})
        ready(api, charge(of, pay_in_advance=True, properties={"amount": "3"}))
        send(n=5)
        event = {
            "code": "calls",
            "external_subscription_id": "sub",
            "transaction_id": "t",
            "properties": {"n": 4},
        }
        (told,) = api.post("/events/estimate_instant_fees", {"event": event})["fees"]
        assert (told["units"], told["amount_cents"]) == ("8.0", "2400.0")

    def test_paid_fees_are_gathered(self, api, send):
        ready(api, in_advance(metric(api), "2", regroup_paid_fees="invoice"))
        send(at(6), n=4)
        bill(api)
        (fee,) = fees(api)
        api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}})
        move(api, 2024, 4, 2)
        (gathered,) = (
            each for each in api.get("/invoices")["invoices"] if each["invoice_type"] == "advance_charges"
        )
        assert gathered["fees_amount_cents"] == 800
