"""Price lists of today: models of the organization's own catalogue, with its prices of the day, become a plan."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from permille.api import catalogue_versions, llm_setup, plans
from permille.core.llm.catalogue import outlier
from permille.usecases import price_catalogue

from .conftest import START, Browser, text_of

CHOSEN = {"markup": "1,2", "plan_name": "GPT", "plan_code": "gpt", "unlisted_values": "held"}
FIVE = {
    "id": "gpt-5",
    "match": {"equals": "gpt-5"},
    "prices": {"input_mtok": 7, "output_mtok": 11},
}


def priced(api: Callable[..., Any], code: str) -> dict[tuple[str, str], Decimal]:
    plan = api(plans.show_plan, code=code)["plan"]
    return {
        (each["values"]["model"][0], each["values"]["type"][0]): Decimal(each["properties"]["amount"])
        * 1_000_000
        for charge in plan["charges"]
        for each in charge["filters"]
    }


def test_chosen_models_become_a_plan_with_todays_prices_and_a_markup(
    browser: Browser, api: Callable[..., Any]
) -> None:
    assert 'href="/app/templates/openai"' in browser.ok("/templates")
    page = browser.ok("/templates/openai")
    assert 'value="openai-2026-10-01"' in page
    assert "gpt-5 $1.25 $0.125" in text_of(page)
    form = {**CHOSEN, "model": ["gpt-5", "gpt-4.1"]}
    assert browser.sent("/templates/openai", form) == "/app/plans/gpt?said=applied"
    found = priced(api, "gpt")
    assert found["gpt-5", "input"] == Decimal("1.5")
    assert found["gpt-5", "cached_input"] == Decimal("0.15")
    assert found["gpt-4.1", "output"] == Decimal("9.6")
    assert {model for model, _ in found} == {"gpt-5", "gpt-4.1"}
    again = browser.refused("/templates/openai", form)
    assert 'id="plan_code-error">This is taken already.' in again
    assert 'value="gpt-4.1" aria-label="Sell gpt-4.1" checked' in again


def test_the_prices_are_those_that_the_organization_has_approved(
    browser: Browser, api: Callable[..., Any]
) -> None:
    provider = {"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": [FIVE]}
    body = {"catalogue_version": {"label": "ours", "prices": [provider]}}
    version = api(catalogue_versions.import_version, body)["catalogue_version"]
    assert "gpt-5 $1.25" in text_of(browser.ok("/templates/openai"))
    api(
        catalogue_versions.approve_version,
        {"catalogue_version": {"accept_outliers": outliers(browser, version["lago_id"])}},
        lago_id=version["lago_id"],
    )
    page = text_of(browser.ok("/templates/openai"))
    assert "gpt-5 $7.00 $11.00" in page
    assert "gpt-4.1" not in page
    browser.sent("/templates/openai", {**CHOSEN, "markup": "1", "model": "gpt-5"})
    assert priced(api, "gpt") == {("gpt-5", "input"): 7, ("gpt-5", "output"): 11}
    assert "anthropic" not in browser.ok("/templates")
    assert browser.client.get("/app/templates/anthropic").status_code == 404


def outliers(browser: Browser, version_id: str) -> list[str]:
    with psycopg.connect(browser.dsn) as conn:
        version = price_catalogue.by_id(conn, browser.organization.id, UUID(version_id))
        return list(outlier.models(price_catalogue.changes_of(conn, version, on=START.date())))


def test_what_is_missing_is_said_and_what_was_chosen_stays(browser: Browser) -> None:
    page = browser.refused("/templates/openai", {"plan_code": "x", "markup": "much"})
    words = text_of(page)
    assert "Choose the models." in words
    assert "Choose what is done with values that no price lists." in words
    assert 'id="markup-error"' in page
    page = browser.ok("/templates/openai", search_term="GPT-4.1")
    assert "Sell gpt-4.1-mini" in page
    assert "Sell gpt-5" not in page
    assert "No model of openai has zzz" in text_of(browser.ok("/templates/openai", search_term="zzz"))
    assert browser.client.get("/app/templates/nobody").status_code == 404


def test_many_models_are_found_by_their_names(browser: Browser) -> None:
    page = browser.ok("/templates/openrouter")
    assert page.count('name="model"') == 200
    assert "more: search for a part of their names." in page


def test_a_reader_sees_prices_and_no_form(reader: Browser) -> None:
    page = reader.ok("/templates/openai")
    assert "gpt-5 $1.25" in text_of(page)
    assert '<form method="post">' not in page
    assert reader.post("/templates/openai", CHOSEN).status_code == 403


def test_both_doors_make_the_same_plan(browser: Browser, api: Callable[..., Any]) -> None:
    browser.sent("/templates/openai", {**CHOSEN, "model": ["gpt-5", "o3"]})
    models = [{"provider": "openai", "model": name} for name in ("gpt-5", "o3")]
    api(llm_setup.set_up_models, {"setup": {"plan_code": "by-api", "markup": "1.2", "models": models}})
    assert priced(api, "gpt") == priced(api, "by-api")
    said = [
        (each["unlisted_values"], each["charge_model"], each["properties"])
        for code in ("gpt", "by-api")
        for each in api(plans.show_plan, code=code)["plan"]["charges"]
    ]
    assert said == [("held", "standard", {"amount": "0"})] * 2
