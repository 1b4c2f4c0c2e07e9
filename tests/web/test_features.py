"""Features and entitlements in the web admin."""

from __future__ import annotations

from typing import Any

import pytest

from permille.api import entitlements as api_entitlements

from .conftest import text_of

FORM = {
    "code": "sso",
    "name": "Single sign-on",
    "privileges": "provider select google okta\nmax integer\nroot boolean",
}


@pytest.fixture
def feature(browser, gpt4):
    assert "No features yet." in text_of(browser.ok("/features"))
    browser.sent("/new-feature", FORM)


def own(api: Any) -> Any:
    found = api(api_entitlements.list_subscription_entitlements, external_id="acme-1")["entitlements"]
    return {each["code"]: {one["code"]: one["value"] for one in each["privileges"]} for each in found}


def test_a_feature_is_made_changed_and_deleted(browser, feature):
    words = text_of(browser.ok("/features"))
    assert "Single sign-on sso provider : google, okta max : integer root : boolean" in words
    assert "provider select google okta" in browser.ok("/edit-feature/sso")
    browser.sent("/edit-feature/sso", {**FORM, "privileges": "provider select azure\nnew"})
    words = text_of(browser.ok("/features"))
    assert "provider : google, okta, azure max : integer root : boolean new : string" in words
    browser.sent("/delete-feature/sso")
    assert "deleted feature" in text_of(browser.ok("/audit-log"))


def test_what_is_wrong_is_said_and_kept(browser, feature):
    page = browser.refused("/new-feature", {"code": "x", "privileges": "provider select"})
    assert "Privileges : This value can&#39;t be used." in text_of(page)
    assert "provider select" in page
    assert "This is taken already." in text_of(browser.refused("/new-feature", FORM))


def test_a_plan_grants_and_a_subscription_has_its_own(browser, api, feature):
    plan = "/entitlements/openai-gpt-4"
    assert f"/app{plan}" in browser.ok("/plans/openai-gpt-4")
    values = {"feature": "sso", "sso:provider": "okta", "sso:max": "5"}
    browser.sent(plan, values)
    assert own(api) == {"sso": {"provider": "okta", "max": 5}}
    page = browser.refused(plan, {**values, "sso:max": "many"})
    assert 'value="many"' in page
    mine = "/own-entitlements/acme-1"
    assert 'value="5"' in browser.ok(mine)
    browser.sent(mine, {**values, "sso:max": "9"})
    assert own(api) == {"sso": {"provider": "okta", "max": 9}}
    browser.sent(mine, {})
    assert own(api) == {}
    browser.sent(plan, {})
    assert "checked" not in browser.ok(plan)
