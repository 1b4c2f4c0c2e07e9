"""Features and entitlements over the API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api

SSO = {
    "code": "sso",
    "name": "SSO",
    "privileges": [
        {"code": "provider", "value_type": "select", "config": {"select_options": ["google", "okta"]}},
        {"code": "root", "value_type": "boolean"},
        {"code": "max", "name": "Maximum", "value_type": "integer"},
    ],
}
PLAN, SUB = "/plans/pro/entitlements", "/subscriptions/sub/entitlements"


@pytest.fixture
def granted(api: Api) -> Api:
    """A plan that grants sso, and a subscription on it."""
    api.post("/features", {"feature": SSO})
    api.post("/features", {"feature": {"code": "seats", "privileges": [{"code": "max"}]}})
    api.plan()
    api.customer()
    api.subscribe()
    api.post(PLAN, {"entitlements": {"sso": {"provider": "google", "root": True, "max": "5"}}})
    return api


def values(api: Api, path: str = SUB) -> Any:
    return {
        each["code"]: {one["code"]: one["value"] for one in each["privileges"]}
        for each in api.get(path)["entitlements"]
    }


def patch(api: Api, path: str, sent: Any) -> Any:
    answer = api.call("PATCH", path, {"entitlements": sent})
    assert answer.status_code == 200, answer.text
    return answer.json()["entitlements"]


def test_a_feature_is_created_changed_and_deleted(api: Api) -> None:
    made = api.post("/features", {"feature": SSO})["feature"]
    assert [(each["code"], each["value_type"], each["config"]) for each in made["privileges"]] == [
        ("provider", "select", {"select_options": ["google", "okta"]}),
        ("root", "boolean", {}),
        ("max", "integer", {}),
    ]
    more = {"code": "provider", "name": "P", "config": {"select_options": ["okta", "azure"]}}
    changed = api.put(
        "/features/sso", {"feature": {"description": "d", "privileges": [more, {"code": "new"}]}}
    )
    privileges = {each["code"]: each for each in changed["feature"]["privileges"]}
    assert privileges["provider"]["config"] == {"select_options": ["google", "okta", "azure"]}
    assert (changed["feature"]["name"], privileges["new"]["value_type"]) == ("SSO", "string")
    assert len(api.delete("/features/sso/privileges/new")["feature"]["privileges"]) == 3
    assert api.code(404, "DELETE", "/features/sso/privileges/new") == "privilege_not_found"
    assert [each["code"] for each in api.get("/features", search_term="SS")["features"]] == ["sso"]
    assert api.get("/features", search_term="none")["features"] == []
    api.delete("/features/sso")
    assert api.code(404, "GET", "/features/sso") == "feature_not_found"


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"code": ""}, {"code": ["value_is_mandatory"]}),
        ({"code": "taken"}, {"code": ["value_already_exist"]}),
        ({"privileges": [{"code": "a", "value_type": "number"}]}, {"value_type": ["value_is_invalid"]}),
        ({"privileges": [{"code": "a", "value_type": "select"}]}, {"config": ["value_is_invalid"]}),
        (
            {"privileges": [{"code": "a", "config": {"select_options": ["x"]}}]},
            {"config": ["value_is_invalid"]},
        ),
        ({"privileges": [{"code": "a"}, {"code": "a"}]}, {"privileges": ["value_is_duplicated"]}),
    ],
)
def test_a_feature_that_is_refused(api: Api, change: Any, details: Any) -> None:
    api.post("/features", {"feature": {"code": "taken"}})
    assert api.details("POST", "/features", {"feature": {**SSO, **change}}) == details


def test_a_plan_grants_replaces_merges_and_drops(granted: Api) -> None:
    assert values(granted, PLAN) == {"sso": {"provider": "google", "root": True, "max": 5}}
    patch(granted, PLAN, {"seats": {"max": "10"}, "sso": {"root": False}})
    assert values(granted, PLAN) == {
        "seats": {"max": "10"},
        "sso": {"provider": "google", "root": False, "max": 5},
    }
    assert granted.delete(f"{PLAN}/sso/privileges/root")["entitlement"]["code"] == "sso"
    assert granted.get(f"{PLAN}/sso")["entitlement"]["name"] == "SSO"
    granted.delete(f"{PLAN}/sso")
    assert granted.code(404, "DELETE", f"{PLAN}/sso") == "entitlement_not_found"
    granted.post(PLAN, {"entitlements": {"sso": {}}})
    assert values(granted, PLAN) == {"sso": {}}
    assert [each["code"] for each in granted.get("/plans/pro")["plan"]["entitlements"]] == ["sso"]


def test_a_subscription_has_values_of_its_own_and_loses_others(granted: Api) -> None:
    shown = {each["code"]: each for each in patch(granted, SUB, {"sso": {"max": 9}, "seats": {"max": "3"}})}
    (found,) = [each for each in shown["sso"]["privileges"] if each["code"] == "max"]
    assert (found["value"], found["plan_value"], found["override_value"]) == (9, 5, 9)
    assert shown["sso"]["overrides"] == {"max": 9}
    granted.delete(f"{SUB}/sso/privileges/root")
    granted.delete(f"{SUB}/seats")
    assert values(granted) == {"sso": {"provider": "google", "max": 9}}
    assert granted.delete(f"{SUB}/sso")["entitlement"]["code"] == "sso"
    assert values(granted) == {}
    patch(granted, SUB, {"sso": {"max": 5}})
    assert values(granted) == {"sso": {"provider": "google", "root": True, "max": 5}}
    (seen,) = granted.get("/subscriptions/sub")["subscription"]["entitlements"]
    assert seen["overrides"] == {}


def test_values_that_do_not_fit_and_names_that_are_not_there(granted: Api) -> None:
    sent = {"sso": {"provider": "azure", "root": "perhaps", "max": 1.5}}
    for method, path in (("POST", PLAN), ("PATCH", PLAN), ("PATCH", SUB)):
        assert granted.details(method, path, {"entitlements": sent}) == {
            "provider_privilege_value": ["value_not_in_select_options"],
            "root_privilege_value": ["value_is_invalid"],
            "max_privilege_value": ["value_is_invalid"],
        }
        unknown: Any = {"entitlements": {"none": {}}}
        assert granted.code(404, method, path, unknown) == "feature_not_found"
        unknown = {"entitlements": {"sso": {"none": 1}}}
        assert granted.code(404, method, path, unknown) == "privilege_not_found"
        assert granted.code(400, method, path, {"entitlements": None}) is None
        assert granted.details(method, path, {"entitlements": {"sso": 7}}) == {
            "entitlements": ["value_is_invalid"]
        }


def test_webhooks_say_who_is_touched(granted: Api) -> None:
    endpoint = {"webhook_url": "http://127.0.0.1:9/"}
    granted.post("/webhook_endpoints", {"webhook_endpoint": endpoint})
    granted.put("/features/sso", {"feature": {"name": "SSO"}})
    patch(granted, PLAN, {"seats": {}})
    patch(granted, SUB, {"seats": {"max": "1"}})
    granted.delete("/features/seats")
    granted.conn.rollback()
    rows = granted.conn.execute(
        "select webhook_type from webhook where organization_id = %s", [granted.organization.id]
    )
    assert sorted(row[0] for row in rows) == [
        "feature.deleted",
        "feature.updated",
        "plan.updated",
        "plan.updated",
        "plan.updated",
        "subscription.updated",
    ]


def test_a_feature_that_is_deleted_is_granted_by_nobody(granted: Api) -> None:
    patch(granted, SUB, {"sso": {"max": 9}})
    granted.delete("/features/sso/privileges/max")
    assert values(granted) == {"sso": {"provider": "google", "root": True}}
    granted.delete("/features/sso")
    assert values(granted) == values(granted, PLAN) == {}
