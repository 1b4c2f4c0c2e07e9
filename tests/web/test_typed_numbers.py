"""Numbers in forms: one rule, in every field that takes one."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from pathlib import Path

import pytest

from permille.api import pricing_units
from permille.web import typed_number
from permille.web.typed_number import number_or_none, plain_number, two_readings

from .conftest import text_of
from .test_plans import GRID, charge_of, tokens  # noqa: F401

WEB = Path(typed_number.__file__).parent
FIELD = re.compile(r'<input[^>]*? name="([^"]+)"[^>]*?data-number="(whole|decimal)"')
NUMERIC = re.compile(r"<input[^>]*inputmode[^>]*>")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", "12.50"),
        ("12,50", "12.50"),
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("1 234,50", "1234.50"),
        ("1 234.50", "1234.50"),
        ("1\u202f234,50", "1234.50"),
        ("1’234.50", "1234.50"),
        ("1 234,567", "1234.567"),
        ("1.234", "1.234"),
        ("0.001", "0.001"),
        ("0,001", "0.001"),
        ("0,03", "0.03"),
        ("1,234,567", "1234567"),
        ("1.234.567", "1234567"),
        ("1.234.567,89", "1234567.89"),
        ("1234,567", "1234.567"),
        ("12,3456", "12.3456"),
        ("-12,50", "-12.50"),
        (",5", "0.5"),
        ("007", "7"),
        ("", ""),
    ],
)
def test_how_a_number_is_read(text, value):
    assert (plain_number(text), two_readings(text)) == (value, "")


@pytest.mark.parametrize("text", ["1,234", "12,345", "123,456", "-1,000"])
def test_two_readings_are_both_named(text):
    assert number_or_none(text) is None
    one, other = text.replace(",", ""), text.replace(",", ".")
    assert two_readings(text) == f"{text} can be read as {one} or as {other}. Type one of these."


@pytest.mark.parametrize(
    "text",
    [
        "1,23,456",
        "1.2,3",
        "5,",
        "1,234 567",
        "1 2",
        "12 34",
        "1e5",
        "--5",
        "abc",
        "1,234,567,8",
        "１２",
        "+5",
    ],
)
def test_what_is_no_number_is_left_for_the_api_to_refuse(text):
    assert (number_or_none(text), plain_number(text), two_readings(text)) == (None, text, "")


@pytest.mark.parametrize(
    ("text", "value"), [("1,000", 1000), ("1.000", 1000), ("1 000", 1000), ("1,234,567", 1234567)]
)
def test_a_count_has_no_decimals_so_its_comma_groups(text, value):
    assert number_or_none(text, whole=True) == Decimal(value)


VALUES_OF_EVENTS = ("matching.py",)
"""These read the properties of events, by the rule for events."""


def test_no_page_reads_numbers_by_itself():
    for path in WEB.glob("*.py"):
        text = path.read_text()
        if path.name != "typed_number.py":
            assert '.replace(",", "")' not in text, path.name
            assert "numeric_value(" not in text or path.name in VALUES_OF_EVENTS, path.name


def test_no_template_draws_a_number_by_itself():
    for path in (WEB / "templates").glob("*.html"):
        for field in NUMERIC.findall(path.read_text()):
            assert path.name == "macros.html", (path.name, field)
            assert "data-number" in field, field


MODELS = ("package", "standard", "graduated", "volume", "percentage", "graduated_percentage")


@pytest.fixture
def pages(browser, api, tokens):  # noqa: F811
    """Every page with a form that takes numbers."""
    unit = {"name": "Credits", "code": "credits", "short_name": "CR"}
    api(pricing_units.create_pricing_unit, {"pricing_unit": unit})
    browser.sent("/new-plan", GRID)
    browser.sent("/new-customer", {"external_id": "acme"})
    browser.sent("/subscribe/acme", {"external_id": "acme-1", "plan_code": "payg"})
    charge = charge_of(api)["code"]
    return [
        *(f"/new-plan?metric=tokens&charge_model={model}" for model in MODELS),
        *(f"/add-charge/payg?metric=tokens&charge_model={model}" for model in MODELS),
        "/edit-plan/payg",
        f"/edit-charge/payg?charge={charge}",
        "/edit-own-plan/acme-1",
        f"/edit-own-charge/acme-1?charge={charge}",
        "/new-billable-metric",
        "/plans/payg",
        "/own-plan/acme-1",
    ]


def fill(browser, address, name, typed):
    """The page after a number was typed on it."""
    path, _, query = address.partition("?")
    chosen = dict(pair.split("=") for pair in query.split("&") if pair)
    if path.startswith(("/plans", "/own-plan")) or name in ("units", "events"):
        return browser.ok(path, **chosen, **{name: typed})
    prefix, _, part = name.rpartition(":")
    row = (
        {f"{prefix}:{each}": "" for each in ("to", "price", "flat")}
        if part in ("to", "price", "flat")
        else {}
    )
    unit = {"pricing_unit": "credits"} if name == "conversion_rate" else {}
    blank = {
        "name": "",
        "code": "",
        "aggregation_type": "sum_agg",
        "interval": "monthly",
        "amount_currency": "USD",
    }
    return browser.refused(
        address, {**GRID, "options": "yes", "amount": "0", **blank, **chosen, **unit, **row, name: typed}
    )


def test_every_number_of_every_form_is_refused_where_it_has_two_readings(browser, pages):
    walked = set()
    for address in pages:
        path, _, query = address.partition("?")
        page = browser.ok(path, **dict(pair.split("=") for pair in query.split("&") if pair))
        for name, kind in set(FIELD.findall(page)):
            walked.add(name.split(":")[-1])
            if kind == "decimal":
                shown = text_of(fill(browser, address, unescape(name), "1,234"))
                assert "1,234 can be read as 1234 or as 1.234. Type one of these." in shown, (address, name)
            else:
                assert 'aria-invalid="true"' in fill(browser, address, unescape(name), "1.2.3"), (
                    address,
                    name,
                )
    assert walked >= {"amount", "min_amount", "trial_period", "conversion_rate", "package_size", "free_units"}
    assert walked >= {"to", "price", "flat", "rate", "fixed_amount", "units", "events", "rounding_precision"}


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("amount", "12,50", "= $12.50"),
        ("amount", "1.234,50", "= $1,234.50"),
        ("min_amount", "0,001", "= $0.001"),
        ("price:0:1", "0,03", "= $0.03"),
        ("trial_period", "1 000", "= 1,000"),
        ("package_size", "1,000", "= 1,000"),
    ],
)
def test_what_was_understood_is_shown_before_it_is_saved(browser, tokens, name, text, wanted):  # noqa: F811
    page = browser.refused("/new-plan", {**GRID, "name": "", "options": "yes", name: text})
    assert wanted in text_of(page)
    assert f'value="{text}"' in page


def test_a_comma_is_saved_as_the_decimal_that_it_is(browser, api, tokens):  # noqa: F811
    form = {
        **GRID,
        "amount": "12,50",
        "price:0:0": "0,06",
        "options": "yes",
        "min_amount": "1.234,50",
        "trial_period": "7,5",
    }
    browser.sent("/new-plan", form)
    assert browser.row(
        "select amount_cents, trial_period from plan where organization_id = %s", browser.organization.id
    ) == (1250, Decimal("7.5"))
    charge = charge_of(api)
    assert charge["min_amount_cents"] == 123450
    assert charge["filters"][0]["properties"]["amount"] == "0.06"
