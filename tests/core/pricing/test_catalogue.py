"""catalogue: the provider's price of a group since a date, times the markup; own prices, and usage without a price."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from permille.core.llm.catalogue.genai_prices import read_catalogue
from permille.core.money import exact
from permille.core.rating.models import ChargeModel, Price, Quantity, clean, pricer, validate
from permille.core.rating.models.catalogue import GROUPS, PRICE_DATE, placed, price_dates, with_prices

PRICES = read_catalogue(
    [
        {
            "id": "acme",
            "models": [
                {
                    "id": "roadrunner",
                    "match": {"starts_with": "roadrunner"},
                    "prices": [
                        {"prices": {"input_mtok": "3", "output_mtok": "12"}},
                        {
                            "constraint": {"start_date": "2026-06-16"},
                            "prices": {"input_mtok": "2", "output_mtok": "12", "cache_read_mtok": "0.7"},
                        },
                    ],
                    "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": "1.5"}}],
                }
            ],
        }
    ],
    label="test-1",
)
GROUP = {"provider": "acme", "model": "roadrunner", "type": "input"}


def priced(
    properties: dict[str, Any], units: int | str = 1_000_000, *, on: str = "2026-06-20", **group: Any
) -> Price:
    full = with_prices(clean(ChargeModel.CATALOGUE, properties), PRICES, "llm_tokens")
    dimensions = placed(full)({**GROUP, **group, "price_since": on})
    with exact():
        return pricer(ChargeModel.CATALOGUE, full)(Quantity(units=Decimal(units), group=dimensions))


def test_usage_costs_what_the_provider_asks_for_on_its_day() -> None:
    assert [priced({}, on=on).amount for on in ("2026-06-15", "2026-06-16")] == [3, 2]
    assert priced({}, 7).amount == Decimal("0.000014")
    assert priced({}, type="output").amount == 12
    assert priced({}, type="cached_input").amount == Decimal("0.7")
    assert priced({}, type="cached_input", on="2026-06-15").amount == 3
    assert priced({}, tier="batch").amount == Decimal("1.5")
    assert priced({}, 0).amount == 0


def test_a_line_is_split_only_where_its_own_price_changes() -> None:
    place = placed(with_prices({}, PRICES, "llm_tokens"))
    assert place({**GROUP, "price_since": "2026-06-20"})["price_since"] == "2026-06-16"
    assert place({**GROUP, "price_since": "2026-06-01"})["price_since"] is None
    assert place({**GROUP, "type": "output", "price_since": "2026-06-20"})["price_since"] is None
    assert price_dates({}, PRICES) == {date(2026, 6, 16)}


def test_the_markup_that_names_the_most_of_the_usage_counts() -> None:
    properties = {
        "markup": "1.2",
        "markup_by": [
            {"provider": "acme", "markup": "1.5"},
            {"provider": "acme", "model": "roadrunner", "type": "output", "markup": 2},
            {"provider": "other", "markup": "9"},
        ],
    }
    assert priced(properties).amount == 3
    assert priced(properties, type="output").amount == 24
    assert priced({"markup": "1.2"}).amount == Decimal("2.4")
    assert priced({"markup": "1.2", "exchange_rate": "0.9"}).amount == Decimal("2.16")


def test_own_prices_win_from_their_date_on() -> None:
    own = {"provider": "acme", "model": "roadrunner", "type": "input", "amount": "0.01", "per": 1000}
    properties = {"markup": "5", "prices": [own, {**own, "amount": "0.02", "from": "2026-06-18"}]}
    assert [priced(properties, 3000, on=on).amount for on in ("2026-06-17", "2026-06-18")] == [
        Decimal("0.03"),
        Decimal("0.06"),
    ]
    assert priced(properties, type="output").amount == 60
    assert date(2026, 6, 18) in price_dates(properties, PRICES)


def test_a_price_from_the_first_date_there_is_holds_always() -> None:
    own = {**GROUP, "amount": "1", "from": "0001-01-01"}
    place = placed({"prices": [own]})
    assert place({**GROUP, PRICE_DATE: "2026-06-18"}) == {**GROUP, PRICE_DATE: None}


def test_prices_of_one_day_hold_always() -> None:
    properties = {"as_of": "2026-06-01"}
    assert [priced(properties, on=on).amount for on in ("2026-06-15", "2026-06-16")] == [3, 3]
    assert price_dates(properties, PRICES) == set()


@pytest.mark.parametrize(("choice", "is_held"), [("hold", True), ("free", False)])
def test_usage_without_a_price_is_reported_and_held_by_choice(choice: str, is_held: bool) -> None:
    found = priced({"unpriced": choice}, model="unknown")
    assert (found.amount, found.is_unpriced, found.is_held) == (0, True, is_held)
    known = priced({"unpriced": choice})
    assert (known.is_unpriced, known.is_held) == (False, False)


def test_the_price_says_where_it_is_from() -> None:
    assert priced({"markup": "1.2"}).details == {
        "catalogue": "test-1",
        "row": "acme/roadrunner input",
        "rate": "2",
        "per": "1000000",
        "markup": "1.2",
        "price_since": "2026-06-16",
    }


def test_usage_is_split_by_what_its_price_depends_on() -> None:
    assert clean(ChargeModel.CATALOGUE, {})["pricing_group_keys"] == list(GROUPS)
    kept = clean(ChargeModel.CATALOGUE, {"pricing_group_keys": ["team", "model"], "amount": "1"})
    assert kept == {"pricing_group_keys": [*GROUPS, "team"]}


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"markup": "-1"}, "invalid_markup"),
        ({"exchange_rate": "x"}, "invalid_exchange_rate"),
        ({"markup_by": {"provider": "acme"}}, "invalid_markup_by"),
        ({"markup_by": [{"markup": "1"}]}, "invalid_markup_by"),
        ({"markup_by": [{"provider": "acme", "markup": "-2"}]}, "invalid_markup_by"),
        ({"prices": [{"provider": "acme", "amount": "1"}]}, "invalid_prices"),
        ({"prices": [{**GROUP, "amount": "1", "per": 0}]}, "invalid_prices"),
        ({"prices": [{**GROUP, "amount": "1", "from": "June"}]}, "invalid_prices"),
        ({"prices": [{**GROUP, "amount": "1", "from": "1899-12-31"}]}, "invalid_prices"),
        ({"as_of": "2200-01-01"}, "invalid_as_of"),
        ({"unpriced": "maybe"}, "invalid_unpriced"),
        ({"as_of": "2026-02-30"}, "invalid_as_of"),
    ],
)
def test_wrong_properties_are_refused(properties: dict[str, Any], code: str) -> None:
    assert validate(ChargeModel.CATALOGUE, properties) == [code]
