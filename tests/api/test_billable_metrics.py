"""Billable metrics over the API: semantics-metering.md section 2.1."""

from typing import Any

import pytest

from tests.api.conftest import Api, charge

DIMENSIONS = [{"key": "type", "values": ["output", "input"]}, {"key": "model", "values": ["gpt-4"]}]


def body(**fields):
    return {
        "billable_metric": {
            "name": "Tokens",
            "code": "tokens",
            "aggregation_type": "sum_agg",
            "field_name": "n",
            **fields,
        }
    }


def test_a_metric_with_dimensions_comes_back_as_it_was_given(api: Api):
    made = api.post("/billable_metrics", body(filters=DIMENSIONS, recurring=False, rounding_precision=-2))
    shown = api.get("/billable_metrics/tokens")["billable_metric"]
    counters = {"active_subscriptions_count": 0, "draft_invoices_count": 0, "plans_count": 0}
    assert made["billable_metric"] == {**shown, **counters}
    assert shown == {
        "lago_id": shown["lago_id"],
        "name": "Tokens",
        "code": "tokens",
        "description": None,
        "aggregation_type": "sum_agg",
        "weighted_interval": None,
        "recurring": False,
        "rounding_function": None,
        "rounding_precision": -2,
        "created_at": "2024-03-05T10:00:00Z",
        "field_name": "n",
        "expression": None,
        "filters": DIMENSIONS,
    }


@pytest.mark.parametrize(
    ("filters", "details"),
    [
        (
            [{"key": "type", "values": ["input", "output", "input"]}],
            {"values": ["value_is_duplicated", "“input” is there 2 times"]},
        ),
        (
            [{"key": "type", "values": ["input"]}, {"key": "type", "values": ["output"]}],
            {"key": ["value_is_duplicated", "“type” is there 2 times"]},
        ),
    ],
)
def test_what_is_given_twice_is_refused_by_name(api: Api, filters, details):
    assert api.details("POST", "/billable_metrics", body(filters=filters)) == details
    api.post("/billable_metrics", body(filters=DIMENSIONS))
    assert api.details("PUT", "/billable_metrics/tokens", body(filters=filters)) == details


def test_every_bad_field_is_reported_at_once(api: Api):
    wrong = body(
        name=" ",
        code=None,
        aggregation_type="median",
        rounding_function="up",
        filters=[{"key": "", "values": []}],
    )
    assert api.details("POST", "/billable_metrics", wrong) == {
        "name": ["value_is_mandatory"],
        "code": ["value_is_mandatory"],
        "aggregation_type": ["value_is_invalid"],
        "rounding_function": ["value_is_invalid"],
        "key": ["value_is_mandatory"],
        "values": ["value_is_mandatory"],
    }


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"field_name": None}, {"field_name": ["value_is_mandatory"]}),
        (
            {"aggregation_type": "max_agg", "recurring": True},
            {"recurring": ["not_compatible_with_aggregation_type"]},
        ),
        ({"aggregation_type": "weighted_sum_agg"}, {"weighted_interval": ["value_is_invalid"]}),
        ({"rounding_precision": 1000}, {"rounding_precision": ["value_is_out_of_range"]}),
        ({"expression": "event.properties.a +"}, {"expression": ["invalid_expression"]}),
        ({"filters": [{"key": "a", "values": "b"}]}, {"values": ["value_is_invalid"]}),
    ],
)
def test_rules_of_a_metric(api: Api, fields, details):
    assert api.details("POST", "/billable_metrics", body(**fields)) == details


def test_a_taken_code_is_reported_with_all_else(api: Api):
    api.metric()
    body = {"code": "tokens", "aggregation_type": "sum_agg"}
    assert api.details("POST", "/billable_metrics", {"billable_metric": body}) == {
        "name": ["value_is_mandatory"],
        "field_name": ["value_is_mandatory"],
        "code": ["value_already_exist"],
    }
    api.metric("others")
    body = {"code": "tokens", "name": ""}
    assert api.details("PUT", "/billable_metrics/others", {"billable_metric": body}) == {
        "name": ["value_is_mandatory"],
        "code": ["value_already_exist"],
    }
    assert api.put("/billable_metrics/tokens", {"billable_metric": {"code": "tokens"}})


def test_a_count_has_no_field_name(api: Api):
    made = api.post("/billable_metrics", body(aggregation_type="count_agg", field_name="n"))
    assert made["billable_metric"]["field_name"] is None


def test_a_code_is_free_again_after_deletion(api: Api):
    first = api.metric()
    assert api.details("POST", "/billable_metrics", body()) == {"code": ["value_already_exist"]}
    assert api.delete("/billable_metrics/tokens")["billable_metric"]["lago_id"] == first["lago_id"]
    assert api.code(404, "GET", "/billable_metrics/tokens") == "billable_metric_not_found"
    assert api.metric()["lago_id"] != first["lago_id"]


def test_an_unpriced_metric_changes_and_keeps_what_is_not_sent(api: Api):
    api.metric(filters=DIMENSIONS)
    changed = {"code": "calls", "aggregation_type": "count_agg", "description": "Calls"}
    after = api.put("/billable_metrics/tokens", {"billable_metric": changed})["billable_metric"]
    assert (after["code"], after["aggregation_type"], after["field_name"]) == ("calls", "count_agg", None)
    assert [entry["key"] for entry in after["filters"]] == ["type", "model"]
    assert api.code(404, "GET", "/billable_metrics/tokens") == "billable_metric_not_found"


def test_a_priced_metric_changes_only_its_name_description_and_dimensions(api: Api):
    metric = api.metric(filters=DIMENSIONS)
    api.plan(charges=[charge(metric)])
    wanted = {"name": "New", "code": "other", "aggregation_type": "max_agg", "filters": [], "recurring": True}
    after = api.put("/billable_metrics/tokens", {"billable_metric": wanted})["billable_metric"]
    assert (after["name"], after["code"], after["aggregation_type"]) == ("New", "tokens", "sum_agg")
    assert after["filters"] == []
    assert after["recurring"] is False


def test_a_taken_code_cannot_be_taken_by_an_update(api: Api):
    api.metric("a")
    api.metric("b")
    wanted = {"billable_metric": {"code": "a"}}
    assert api.details("PUT", "/billable_metrics/b", wanted) == {"code": ["value_already_exist"]}


def test_dimension_values_that_go_are_trimmed_out_of_charge_filters(api: Api):
    metric = api.metric(
        filters=[{"key": "model", "values": ["a", "b"]}, {"key": "type", "values": ["in", "out"]}]
    )
    price = {"properties": {"amount": "2"}}
    filters = [
        {"values": {"model": ["a", "b"], "type": ["in"]}, **price},
        {"values": {"model": ["b"]}, **price},
        {"values": {"model": ["b"], "type": ["__ALL_FILTER_VALUES__"]}, **price},
    ]
    api.plan(charges=[charge(metric, filters=filters)])
    api.put(
        "/billable_metrics/tokens",
        {
            "billable_metric": {
                "filters": [{"key": "model", "values": ["a"]}, {"key": "type", "values": ["in"]}]
            }
        },
    )
    (left,) = api.get("/plans/pro")["plan"]["charges"]
    assert [entry["values"] for entry in left["filters"]] == [
        {"model": ["a"], "type": ["in"]},
        {"type": ["__ALL_FILTER_VALUES__"]},
    ]


ONE_OR_TWO = [
    {"values": {"model": ["a", "b"]}, "properties": {"amount": "1"}, "invoice_display_name": "both"},
    {"values": {"model": ["b"]}, "properties": {"amount": "2"}, "invoice_display_name": "b"},
]


def models(api: Api, *values: str) -> Any:
    body = {"filters": [{"key": "model", "values": list(values)}]}
    return api.call("PUT", "/billable_metrics/tokens", {"billable_metric": body})


def names(answer: Any) -> list[str]:
    return [each["invoice_display_name"] for each in answer["charge"]["filters"]]


def test_filters_that_become_equal_are_ordered_so_that_no_other_value_is_repriced(api: Api):
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])
    api.plan(charges=[charge(metric, code="c", filters=ONE_OR_TWO)])
    api.customer()
    api.subscribe()
    api.put("/subscriptions/sub/charges/c", {"charge": {"invoice_display_name": "own"}})
    assert models(api, "b").status_code == 200
    assert names(api.get("/plans/pro/charges/c")) == ["b", "both"]
    assert names(api.get("/subscriptions/sub/charges/c")) == ["b", "both"], "a plan of its own too"


def test_an_edit_that_would_reprice_other_values_is_refused_while_somebody_is_subscribed(api: Api):
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b", "c"]}])
    filters = [ONE_OR_TWO[0], {**ONE_OR_TWO[1], "values": {"model": ["b", "c"]}}]
    api.plan(charges=[charge(metric, code="c", filters=filters)])
    api.customer()
    api.subscribe()
    api.put("/subscriptions/sub/charges/c", {"charge": {"invoice_display_name": "own"}})
    api.plan("other", charges=[charge(metric, filters=filters)])
    refused = models(api, "a", "b")
    assert refused.status_code == 422
    assert refused.json()["error_details"] == {
        "filters": [
            "would_reprice_other_values",
            "Plan pro, charge c, filter both",
            "Plan pro, charge c, filter b",
        ]
    }
    assert api.get("/billable_metrics/tokens")["billable_metric"]["filters"][0]["values"] == ["a", "b", "c"]
    assert api.get("/plans/pro/charges/c")["charge"]["filters"][1]["values"] == {"model": ["b", "c"]}
    api.delete("/subscriptions/sub")
    assert models(api, "a", "b").status_code == 422, "its invoices can still be drafts, or be explained"


def test_without_subscribers_a_plan_follows_as_in_lago(api: Api):
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b", "c"]}])
    filters = [ONE_OR_TWO[0], {**ONE_OR_TWO[1], "values": {"model": ["b", "c"]}}]
    api.plan(charges=[charge(metric, code="c", filters=filters)])
    assert models(api, "a", "b").status_code == 200
    left = api.get("/plans/pro/charges/c")["charge"]["filters"]
    assert [each["values"] for each in left] == [{"model": ["a", "b"]}, {"model": ["b"]}]


def test_deleting_a_metric_takes_its_charges_away(api: Api):
    metric, other = api.metric(), api.metric("images")
    api.plan(charges=[charge(metric), charge(other)])
    api.delete("/billable_metrics/tokens")
    assert [entry["billable_metric_code"] for entry in api.get("/plans/pro")["plan"]["charges"]] == ["images"]


def test_metrics_are_listed_in_pages(api: Api):
    for number in range(5):
        api.metric(f"m{number}")
    page = api.get("/billable_metrics", page=2, per_page=2)
    assert len(page["billable_metrics"]) == 2
    assert page["meta"] == {
        "current_page": 2,
        "next_page": 3,
        "prev_page": 1,
        "total_pages": 3,
        "total_count": 5,
    }
    codes = [
        row["code"]
        for number in (1, 2, 3)
        for row in api.get("/billable_metrics", page=number, per_page=2)["billable_metrics"]
    ]
    assert sorted(codes) == ["m0", "m1", "m2", "m3", "m4"]


@pytest.mark.parametrize(
    ("params", "shown", "pages"),
    [
        ({"per_page": "12"}, 12, 3),
        ({"per_page": "soon"}, 25, 2),
        ({"per_page": "-3"}, 25, 2),
        ({"per_page": "", "page": ""}, 25, 2),
        ({"page": "0"}, 27, 1),
        ({"page": "-1"}, 27, 1),
        ({"page": "x"}, 27, 1),
        ({"per_page": "99999"}, 27, 1),
    ],
)
def test_junk_in_the_page_asked_for(api: Api, params, shown, pages):
    for number in range(27):
        api.metric(f"m{number}")
    answer = api.get("/billable_metrics", **params)
    assert len(answer["billable_metrics"]) == shown
    assert (answer["meta"]["current_page"], answer["meta"]["total_pages"]) == (1, pages)


def test_pages_of_nothing_are_refused(api: Api):
    assert api.details("GET", "/billable_metrics", None, per_page=0) == {
        "per_page": ["value_is_out_of_range"]
    }


def test_organizations_do_not_see_each_others_metrics(api: Api, stranger: Api):
    theirs = api.metric()
    assert stranger.code(404, "GET", "/billable_metrics/tokens") == "billable_metric_not_found"
    assert stranger.code(404, "DELETE", "/billable_metrics/tokens") == "billable_metric_not_found"
    assert stranger.get("/billable_metrics")["billable_metrics"] == []
    wanted = {"plan": {"name": "p", "code": "p", "interval": "monthly", "amount_cents": 0, "charges": []}}
    wanted["plan"] |= {"amount_currency": "EUR", "charges": [charge(theirs)]}
    assert stranger.code(404, "POST", "/plans", wanted) == "billable_metrics_not_found"
