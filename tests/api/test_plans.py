"""Plans over the API: semantics-billing.md section 2, charges semantics-metering.md sections 4.1 and 5.1."""

import uuid
from typing import Any

import psycopg
import pytest

from permille.store import plans
from tests.api.conftest import Api, charge, plan_body

MODELS = [{"key": "model", "values": ["gpt-4", "gpt-3.5"]}, {"key": "type", "values": ["input", "output"]}]
PACKAGE = {"amount": "0.03", "package_size": 1000, "free_units": 0}


@pytest.fixture
def metric(api: Api):
    return api.metric(filters=MODELS)


def test_a_plan_with_a_price_for_each_combination_of_dimensions(api: Api, metric):
    filters = [
        {
            "invoice_display_name": "GPT-4 in",
            "values": {"type": ["input"], "model": ["gpt-4"]},
            "properties": PACKAGE,
        },
        {
            "values": {"model": ["__ALL_FILTER_VALUES__"]},
            "properties": {**PACKAGE, "amount": "0.001"},
        },
    ]
    properties = {"package_size": 1000, "free_units": 5, "amount": "1", "junk": [1]}
    wanted = charge(metric, charge_model="package", properties=properties, filters=filters)
    made = api.plan(charges=[wanted], trial_period=1.5, metadata={"tier": "a", "none": None})
    assert made == api.get("/plans/pro")["plan"]
    assert made["trial_period"] == 1.5
    assert made["metadata"] == {"tier": "a", "none": None}
    (shown,) = made["charges"]
    assert shown["properties"] == {"package_size": 1000, "free_units": 5, "amount": "1"}
    assert (shown["code"], shown["billable_metric_code"], shown["invoiceable"]) == ("tokens", "tokens", True)
    first, second = shown["filters"]
    assert list(first["values"]) == ["type", "model"]
    assert (first["charge_code"], first["invoice_display_name"]) == ("tokens", "GPT-4 in")
    assert second["values"] == {"model": ["__ALL_FILTER_VALUES__"]}


def test_a_plan_has_all_of_lagos_fields(api: Api):
    assert set(api.plan()) == {
        "lago_id", "name", "invoice_display_name", "created_at", "code", "interval", "description",
        "amount_cents", "amount_currency", "trial_period", "pay_in_advance", "bill_charges_monthly",
        "bill_fixed_charges_monthly", "customers_count", "active_subscriptions_count", "draft_invoices_count",
        "parent_id", "pending_deletion", "charges", "fixed_charges", "entitlements", "usage_thresholds",
        "applicable_usage_thresholds", "taxes", "scheduled_changes", "minimum_commitment",
    }  # fmt: skip


def test_every_bad_field_is_reported_at_once(api: Api, metric):
    bad = charge(metric, charge_model="package", properties={"amount": -3, "package_size": "x"})
    wanted = plan_body("", [bad], name=None, interval="daily", amount_cents=-1, amount_currency="XXX")
    assert api.details("POST", "/plans", {"plan": wanted}) == {
        "name": ["value_is_mandatory"],
        "amount_cents": ["value_is_out_of_range"],
        "code": ["value_is_mandatory"],
        "interval": ["value_is_invalid"],
        "amount_currency": ["value_is_invalid"],
        "properties": ["invalid_amount", "invalid_package_size", "invalid_free_units"],
    }


@pytest.mark.parametrize("metric_id", [str(uuid.UUID(int=7)), "nonsense", None, 7, {"a": 1}])
def test_an_unknown_metric_is_not_found(api: Api, metric_id):
    wanted = plan_body(charges=[{"billable_metric_id": metric_id, "charge_model": "standard"}])
    assert api.code(404, "POST", "/plans", {"plan": wanted}) == "billable_metrics_not_found"


def test_a_code_is_taken_once_and_free_after_deletion(api: Api):
    api.plan()
    assert api.details("POST", "/plans", {"plan": plan_body()}) == {"code": ["value_already_exist"]}
    assert api.delete("/plans/pro")["plan"]["pending_deletion"] is True
    assert api.code(404, "GET", "/plans/pro") == "plan_not_found"
    api.plan()


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        (
            {"charge_model": "volume", "pay_in_advance": True, "properties": {}},
            {"pay_in_advance": ["invalid_aggregation_type_or_charge_model"]},
        ),
        ({"prorated": True}, {"prorated": ["invalid_billable_metric_or_charge_model"]}),
        (
            {"charge_model": "custom", "properties": {}},
            {"charge_model": ["invalid_aggregation_type_or_charge_model"]},
        ),
        ({"invoiceable": False}, {"invoiceable": ["must_be_true_unless_pay_in_advance"]}),
        (
            {"regroup_paid_fees": "invoice"},
            {"regroup_paid_fees": ["only_compatible_with_pay_in_advance_and_non_invoiceable"]},
        ),
        ({"min_amount_cents": -1}, {"min_amount_cents": ["value_is_out_of_range"]}),
        ({"charge_model": "gratis"}, {"charge_model": ["value_is_invalid"]}),
        (
            {"pay_in_advance": True, "min_amount_cents": 5},
            {"min_amount_cents": ["not_compatible_with_pay_in_advance"]},
        ),
        ({"filters": [{"properties": {"amount": "1"}}]}, {"values": ["value_is_mandatory"]}),
        (
            {"filters": [{"properties": {"amount": "1"}, "values": {"model": ["gpt-5"]}}]},
            {"values": ["value_is_invalid"]},
        ),
        (
            {"filters": [{"properties": {"amount": "1"}, "values": {"region": ["eu"]}}]},
            {"billable_metric_filter": ["relation_must_exist"], "values": ["value_is_invalid"]},
        ),
        (
            {"filters": [{"properties": {}, "values": {"model": ["gpt-4"]}}]},
            {"properties": ["invalid_amount"]},
        ),
        (
            {
                "filters": [
                    {"properties": {"amount": "1"}, "values": {"model": ["__ALL_FILTER_VALUES__", "gpt-4"]}}
                ]
            },
            {"values": ["value_is_invalid"]},
        ),
        ({"properties": {"amount": "1", "pricing_group_keys": "user"}}, {"properties": ["invalid_type"]}),
    ],
)
def test_rules_of_a_charge(api: Api, metric, fields, details):
    wanted = plan_body(charges=[charge(metric, **fields)])
    assert api.details("POST", "/plans", {"plan": wanted}) == details


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entitlements", [{"code": "seats"}]),
    ],
)
def test_what_is_not_built_yet_is_refused_and_not_ignored(api: Api, field, value):
    wanted = {"plan": plan_body(**{field: value})}
    assert api.details("POST", "/plans", wanted) == {field: ["not_supported_yet"]}
    api.plan(**{field: type(value)()})


def test_codes_of_charges_are_made_from_the_metrics_code(api: Api, metric):
    charges = [charge(metric), charge(metric), charge(metric, code="mine"), charge(metric)]
    made = api.plan(charges=charges)
    assert [entry["code"] for entry in made["charges"]] == ["tokens", "tokens_2", "mine", "tokens_3"]
    twice = plan_body("other", [charge(metric, code="a"), charge(metric, code="a")])
    assert api.details("POST", "/plans", {"plan": twice}) == {"code": ["value_already_exist"]}


def test_charges_are_replaced_as_a_whole_by_id(api: Api, metric):
    made = api.plan(charges=[charge(metric, code=code) for code in "abc"])
    first, _, third = made["charges"]
    wanted = [
        {"id": third["lago_id"], "properties": {"amount": "7"}, "invoice_display_name": "Third"},
        charge(metric, code="d"),
        {"id": first["lago_id"]},
    ]
    after = api.put("/plans/pro", {"plan": {"charges": wanted}})["plan"]["charges"]
    assert [entry["code"] for entry in after] == ["c", "d", "a"]
    assert (after[0]["lago_id"], after[0]["properties"]) == (third["lago_id"], {"amount": "7"})
    assert after[2] == first
    assert api.get("/plans/pro")["plan"]["charges"] == after
    untouched = api.put("/plans/pro", {"plan": {"name": "New"}})["plan"]
    assert (untouched["name"], untouched["charges"]) == ("New", after)
    assert api.put("/plans/pro", {"plan": {"charges": []}})["plan"]["charges"] == []


def test_filters_are_matched_by_their_values(api: Api, metric):
    def one(values, amount):
        return {"values": values, "properties": {"amount": amount}}

    filters = [one({"model": ["gpt-4"], "type": ["input"]}, "1"), one({"model": ["gpt-3.5"]}, "2")]
    (before,) = api.plan(charges=[charge(metric, filters=filters)])["charges"]
    wanted = [
        one({"type": ["output"]}, "3"),
        one({"type": ["input"], "model": ["gpt-4"]}, "4"),
        one({"type": ["output"]}, "5"),
    ]
    update = {"plan": {"charges": [{"id": before["lago_id"], "filters": wanted}]}}
    (after,) = api.put("/plans/pro", update)["plan"]["charges"]
    assert [entry["properties"]["amount"] for entry in after["filters"]] == ["5", "4"]
    assert after["filters"][1]["lago_id"] == before["filters"][0]["lago_id"]
    assert after["properties"] == before["properties"]
    assert api.get("/plans/pro")["plan"]["charges"] == [after]
    left = api.row(
        "select count(*) from charge_filter f join charge c on c.id = f.charge_id"
        " where c.organization_id = %(organization)s and f.deleted_at is null"
    )
    assert left == (2,)


def test_a_subscribed_plan_keeps_its_structure_and_changes_its_prices(api: Api, metric):
    made = api.plan(charges=[charge(metric)])
    api.subscribe()
    (before,) = made["charges"]
    changed = {
        "id": before["lago_id"],
        "charge_model": "package",
        "code": "x",
        "properties": {"amount": "9"},
        "invoice_display_name": "Nine",
    }
    wanted = {
        "code": "new",
        "interval": "yearly",
        "amount_currency": "USD",
        "pay_in_advance": True,
        "trial_period": 3,
        "amount_cents": 500,
        "name": "Renamed",
        "charges": [changed, charge(metric, charge_model="package", properties=PACKAGE)],
    }
    after = api.put("/plans/pro", {"plan": wanted})["plan"]
    kept = ("code", "interval", "amount_currency", "pay_in_advance", "trial_period")
    assert {name: after[name] for name in kept} == {name: made[name] for name in kept}
    assert (after["amount_cents"], after["name"]) == (500, "Renamed")
    old, new = after["charges"]
    expected = {**before, "properties": {"amount": "9"}, "invoice_display_name": "Nine"}
    assert old == expected
    assert (new["code"], new["charge_model"]) == ("tokens_2", "package")


def test_an_unused_plan_changes_its_structure(api: Api, metric):
    (before,) = api.plan(charges=[charge(metric)])["charges"]
    changed = {"id": before["lago_id"], "charge_model": "graduated"}
    wanted = {"code": "new", "interval": "yearly", "bill_charges_monthly": True, "charges": [changed]}
    after = api.put("/plans/pro", {"plan": wanted})["plan"]
    assert (after["code"], after["interval"], after["bill_charges_monthly"]) == ("new", "yearly", True)
    tier = {"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}
    assert after["charges"][0]["properties"] == {"graduated_ranges": [tier]}
    assert api.put("/plans/new", {"plan": {"interval": "monthly"}})["plan"]["bill_charges_monthly"] is None


def test_bounds_of_tiers_come_back_as_the_numbers_that_were_sent(api: Api, metric):
    tiers = [
        {"from_value": 0, "to_value": 0.10, "per_unit_amount": "1.10", "flat_amount": "0"},
        {"from_value": 0.10, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
    ]
    properties = {"graduated_ranges": tiers, "grouped_by": ["user", ""]}
    made = api.plan(charges=[charge(metric, charge_model="graduated", properties=properties)])
    shown = made["charges"][0]["properties"]
    assert shown == {"graduated_ranges": tiers, "pricing_group_keys": ["user"], "grouped_by": ["user"]}


def test_charge_and_filter_one_by_one(api: Api, metric):
    api.plan()
    body = charge(metric, properties={"amount": "10"})
    assert api.details("POST", "/plans/pro/charges", {"charge": body}) == {"code": ["value_is_mandatory"]}
    made = api.post("/plans/pro/charges", {"charge": {**body, "code": "mine"}})["charge"]
    assert api.get("/plans/pro/charges/mine")["charge"] == made
    again = {"charge": {**body, "code": "mine"}}
    assert api.details("POST", "/plans/pro/charges", again) == {"code": ["value_already_exist"]}
    path = "/plans/pro/charges/mine/filters"
    wanted = {"values": {"model": ["gpt-4"]}, "properties": {"amount": "5"}, "invoice_display_name": "A"}
    entry = api.post(path, {"filter": wanted})["filter"]
    other: Any = {"filter": {"values": {"type": []}}}
    assert api.details("PUT", f"{path}/{entry['lago_id']}", other) == {"values": ["cannot_be_changed"]}
    renamed = {
        "filter": {"invoice_display_name": "B", "properties": {"amount": "6"}, "values": wanted["values"]}
    }
    changed = api.put(f"{path}/{entry['lago_id']}", renamed)["filter"]
    assert changed == {**entry, "invoice_display_name": "B", "properties": {"amount": "6"}}
    assert api.get(path)["filters"] == [changed]
    assert api.get(f"{path}/{entry['lago_id']}")["filter"] == changed
    api.put("/plans/pro/charges/mine", {"charge": {"properties": {"amount": "20"}}})
    (whole,) = api.get("/plans/pro/charges")["charges"]
    assert (whole["properties"], whole["filters"]) == ({"amount": "20"}, [changed])
    api.delete(f"{path}/{entry['lago_id']}")
    assert api.code(404, "GET", f"{path}/{entry['lago_id']}") == "charge_filter_not_found"
    assert api.code(404, "GET", f"{path}/nonsense") == "charge_filter_not_found"
    api.delete("/plans/pro/charges/mine")
    assert api.code(404, "GET", "/plans/pro/charges/mine") == "charge_not_found"
    assert api.get("/plans/pro")["plan"]["charges"] == []


def test_an_unknown_metric_of_a_single_charge_is_not_found(api: Api):
    api.plan()
    wanted = {"charge": {"code": "c", "billable_metric_id": str(uuid.uuid4()), "charge_model": "standard"}}
    assert api.code(404, "POST", "/plans/pro/charges", wanted) == "billable_metric_not_found"


def test_plans_are_the_organizations_own(api: Api, stranger: Api):
    api.plan()
    stranger.plan()
    assert stranger.get("/plans")["meta"]["total_count"] == 1
    stranger.delete("/plans/pro")
    assert api.get("/plans/pro")["plan"]["code"] == "pro"


def test_any_number_of_plans_is_loaded_in_three_statements(api: Api, metric):
    prices = [{"values": {"model": ["gpt-4"]}, "properties": {"amount": "1"}}]
    ids = [
        uuid.UUID(api.plan(f"p{number}", [charge(metric, filters=prices)] * 2)["lago_id"])
        for number in range(4)
    ]
    executed = []

    class Counting(psycopg.Cursor):
        def execute(self, query, *args, **kwargs):
            executed.append(query)
            return super().execute(query, *args, **kwargs)

    api.conn.rollback()
    api.conn.cursor_factory = Counting
    try:
        loaded = plans.plans_by_ids(api.conn, ids)
    finally:
        api.conn.cursor_factory = psycopg.Cursor
    assert len(executed) == 3
    assert [len(loaded[plan_id].charges) for plan_id in ids] == [2] * 4
    assert loaded[ids[0]].charges[1].filters[0].values == {"model": ("gpt-4",)}
    assert loaded[ids[0]].charges[0].metric.filters == {
        "model": ("gpt-4", "gpt-3.5"),
        "type": ("input", "output"),
    }


def test_metadata_is_replaced_merged_and_deleted(api: Api) -> None:
    api.plan(metadata={"tier": "a"})
    path = "/plans/pro/metadata"
    assert api.post(path, {"metadata": {"erp": "17", "none": None}}) == {
        "metadata": {"erp": "17", "none": None}
    }
    merged = api.call("PATCH", path, {"metadata": {"erp": "18", "crm": "x"}})
    assert merged.json() == {"metadata": {"erp": "18", "none": None, "crm": "x"}}
    assert api.delete(f"{path}/none") == {"metadata": {"erp": "18", "crm": "x"}}
    assert api.code(404, "DELETE", f"{path}/none") == "metadata_not_found"
    assert api.get("/plans/pro")["plan"]["metadata"] == {"erp": "18", "crm": "x"}
    assert api.delete(path) == {"metadata": None}
    assert "metadata" not in api.get("/plans/pro")["plan"]
    assert api.post(path, {"metadata": {}}) == {"metadata": None}


@pytest.mark.parametrize(
    ("sent", "details"),
    [
        ({"x" * 101: "y"}, ["value_is_invalid"]),
        ({"x": "y" * 256}, ["value_is_invalid"]),
        ({"x": 1}, ["value_is_invalid"]),
        ("x", ["value_is_invalid"]),
        ({f"k{number}": "" for number in range(50)}, ["value_is_out_of_range"]),
    ],
)
def test_metadata_that_cannot_be(api: Api, sent: object, details: list[str]) -> None:
    api.plan(metadata={"tier": "a"})
    assert api.details("PATCH", "/plans/pro/metadata", {"metadata": sent}) == {"metadata": details}
    assert api.get("/plans/pro")["plan"]["metadata"] == {"tier": "a"}


def test_metadata_of_no_plan_and_no_metadata(api: Api) -> None:
    for method in ("POST", "PATCH", "DELETE"):
        assert api.code(404, method, "/plans/none/metadata", {"metadata": {}}) == "plan_not_found"
    api.plan()
    assert api.code(400, "POST", "/plans/pro/metadata", {}) is None


def test_a_tier_may_be_smaller_than_a_millionth(api: Api, metric):
    tiers = [
        {"from_value": 0, "to_value": 0.0000005, "per_unit_amount": "2", "flat_amount": "0"},
        {"from_value": 0.0000005, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
    ]
    properties = {"graduated_ranges": tiers}
    api.plan(charges=[charge(metric, charge_model="graduated", properties=properties)])
    (shown,) = api.get("/plans/pro")["plan"]["charges"]
    assert [tier["to_value"] for tier in shown["properties"]["graduated_ranges"]] == [5e-7, None]
