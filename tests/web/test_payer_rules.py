"""Rules about who pays, through both doors: the API and the web admin do the same with the same consequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from permille.api import payer_rules
from permille.core.llm.call import SentCall
from permille.core.record import replace
from permille.usecases import llm_usages
from tests.core.llm.samples import sent, usages

from .conftest import START, Browser, text_of

RULE = "select field, value, external_customer_id, external_subscription_id, overrides_request, position from payer_rule"
COUNTED = "select count(*) from held_usage where organization_id = %s and counted_at is not null"


@pytest.fixture(params=["API", "web"])
def door(request: Any, browser: Browser, api: Callable[..., Any]) -> Door:
    return Door(request.param, browser, api)


class Door:
    """Where a rule is made, changed and removed."""

    def __init__(self, name: str, browser: Browser, api: Callable[..., Any]) -> None:
        self.is_api, self.browser, self.api = name == "API", browser, api

    def add(self, field: str, value: str, *, callers_choose: bool = False, **payer: str) -> None:
        body = {"field": field, "value": value, **payer}
        if self.is_api:
            chosen = {"overrides_request": False} if callers_choose else {}
            self.api(payer_rules.create_payer_rule, {"payer_rule": {**body, **chosen}})
        else:
            self.browser.sent(
                "/payer-rules", {**body, **({"callers_choose": "on"} if callers_choose else {})}
            )

    def change(self, *, callers_choose: bool, **payer: str) -> None:
        if self.is_api:
            body = {"overrides_request": not callers_choose, **payer}
            body["position"] = body.get("position") or None
            self.api(payer_rules.update_payer_rule, {"payer_rule": body}, lago_id=self.rule_id)
        else:
            form = {**payer, **({"callers_choose": "on"} if callers_choose else {})}
            self.browser.sent(f"/edit-payer-rule/{self.rule_id}", form)

    def remove(self) -> None:
        if self.is_api:
            self.api(payer_rules.delete_payer_rule, lago_id=self.rule_id)
        else:
            self.browser.sent(f"/delete-payer-rule/{self.rule_id}")

    @property
    def rule_id(self) -> str:
        return str(self._of("select id from payer_rule")[0])

    @property
    def rule(self) -> Any:
        return self._of(RULE)

    def _of(self, query: str) -> Any:
        return self.browser.row(f"{query} where organization_id = %s", self.browser.organization.id)


@pytest.fixture
def acme(browser: Browser) -> None:
    """A customer with one running subscription."""
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    plan = {"name": "Go", "code": "go", "interval": "monthly", "amount_currency": "USD", "amount_cents": "0"}
    browser.sent("/new-plan", plan)
    browser.sent("/subscribe/acme", {"external_id": "sub", "plan_code": "go"})


def hold(browser: Browser, count: int, **names: list[str]) -> None:
    """Calls that wait for somebody who pays."""
    calls = [
        SentCall(
            usage=replace(sent(usages()[0]), response_id=f"r{number}"),
            external_subscription_id=None,
            external_customer_id=None,
            at=START,
            properties={},
            payer_names=names,
        )
        for number in range(count)
    ]
    with psycopg.connect(browser.dsn) as conn:
        here = browser.organization.id
        held = llm_usages.hold(conn, here, llm_usages.prepare(conn, here, calls), now=START)
    assert {each.problem and each.problem.code for each in held} == {"subscription_missing"}


def test_a_rule_is_added_changed_and_removed(browser: Browser, acme: None, door: Door) -> None:
    hold(browser, 2, team=["t1"])
    door.add("team", "t1", external_customer_id="acme")
    assert door.rule == ("team", "t1", "acme", None, True, None)
    assert browser.row(COUNTED, browser.organization.id) == (2,)
    door.change(callers_choose=True, external_subscription_id="sub", position="3")
    assert door.rule == ("team", "t1", None, "sub", False, 3)
    door.change(callers_choose=False, external_customer_id="acme", position="")
    assert door.rule == ("team", "t1", "acme", None, True, None)
    door.remove()
    assert door.rule is None
    assert browser.row(COUNTED, browser.organization.id) == (2,)


def test_callers_choose_before_rules_about_what_they_write_themselves(
    browser: Browser, acme: None, door: Door
) -> None:
    door.add("tag", "beta", external_customer_id="acme", position="2")
    assert door.rule == ("tag", "beta", "acme", None, False, 2)


def test_a_rule_of_ones_own_programs(browser: Browser, acme: None, door: Door) -> None:
    door.add("key", "k", callers_choose=True, external_subscription_id="sub")
    assert door.rule == ("key", "k", None, "sub", False, None)


def test_the_page_lists_rules_and_says_what_it_counted(browser: Browser, acme: None) -> None:
    assert "No rules yet." in browser.ok("/payer-rules")
    page = browser.ok("/payer-rules", field="user", value="u<1>")
    assert 'value="u&lt;1&gt;"' in page
    assert '<option value="user" selected>' in page
    hold(browser, 1, user=["u<1>"])
    form = {"field": "user", "value": "u<1>", "external_customer_id": "acme"}
    assert browser.sent("/payer-rules", form) == "/app/payer-rules?said=waiting_counted"
    page = browser.ok("/payer-rules", said="waiting_counted")
    assert "Calls that waited for it are counted" in page
    assert "User u&lt;1&gt; customer acme no" in text_of(page)
    form = {"field": "tag", "value": "t", "external_subscription_id": "sub"}
    assert browser.sent("/payer-rules", form) == "/app/payer-rules?said=created"
    assert "Tag t subscription sub yes" in text_of(browser.ok("/payer-rules"))


@pytest.mark.parametrize(
    ("form", "words", "place"),
    [
        ({"external_customer_id": "nobody"}, "There is no such customer.", "external_customer_id"),
        (
            {"external_subscription_id": "nobody"},
            "There is no such subscription.",
            "external_subscription_id",
        ),
        (
            {"external_customer_id": "acme", "external_subscription_id": "sub"},
            "Give a customer or a subscription, not both.",
            "external_subscription_id",
        ),
        ({}, "Fill this in.", "external_customer_id"),
    ],
)
def test_what_is_wrong_is_shown_beside_its_field(
    browser: Browser, acme: None, form: dict[str, str], words: str, place: str
) -> None:
    named = {"field": "team", "value": "t1"}
    for page in (
        browser.refused("/payer-rules", {**named, **form}),
        browser.refused(f"/edit-payer-rule/{made(browser)}", form),
    ):
        assert f'id="{place}-error">{words}' in page.replace("&#39;", "'")
    again = browser.refused("/payer-rules", {"field": "key", "value": "k", "external_customer_id": "acme"})
    assert 'id="value-error">This is taken already.' in again


def made(browser: Browser) -> str:
    """A rule that there is."""
    browser.sent("/payer-rules", {"field": "key", "value": "k", "external_customer_id": "acme"})
    return str(
        browser.row("select id from payer_rule where organization_id = %s", browser.organization.id)[0]
    )


def test_unattributed_usage_leads_to_a_rule_about_its_names(browser: Browser, acme: None) -> None:
    calls = SentCall(
        usage=replace(sent(usages()[0]), response_id="r"),
        external_subscription_id=None,
        external_customer_id=None,
        at=START,
        properties={"team": "a&b"},
    )
    with psycopg.connect(browser.dsn) as conn:
        here = browser.organization.id
        llm_usages.hold(conn, here, llm_usages.prepare(conn, here, [calls]), now=START)
    assert 'href="/app/payer-rules?field=team&amp;value=a%26b"' in browser.ok("/llm-usage")


def test_a_reader_sees_no_form(reader: Browser) -> None:
    assert "<h2>Add a rule" not in reader.ok("/payer-rules")
    assert reader.post("/payer-rules", {"field": "key"}).status_code == 403
    assert reader.post("/delete-payer-rule/x").status_code == 403
