"""What holds for all price models."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from permille.core.rating import models
from permille.core.rating.models import ChargeModel, clean, defaults, model_of, price, validate
from permille.core.rating.models.catalogue import GROUPS
from permille.core.rating.models.group_keys import pricing_keys

OURS = {ChargeModel.CUSTOM, ChargeModel.CATALOGUE}


@pytest.mark.parametrize("model", list(ChargeModel))
def test_the_defaults_are_valid_and_cost_nothing(model: ChargeModel) -> None:
    properties = defaults(model)
    assert validate(model, properties) == []
    assert clean(model, properties) == properties
    for units in ("0", "1", "12.5"):
        assert price(model, units=Decimal(units), properties=properties, currency="EUR").amount == 0


@pytest.mark.parametrize("model", list(ChargeModel))
def test_defaults_can_be_changed_without_changing_the_model(model: ChargeModel) -> None:
    changed = defaults(model)
    for value in changed.values():
        if isinstance(value, list):
            value[0] = {"flat_amount": "7"}
    assert defaults(model) == defaults(model)
    assert "7" not in str(defaults(model))


def test_the_defaults_are_lagos() -> None:
    """semantics-metering.md 5.1."""
    open_tier = {"from_value": 0, "to_value": None, "flat_amount": "0"}
    assert {model: defaults(model) for model in ChargeModel if model not in OURS} == {
        ChargeModel.STANDARD: {"amount": "0"},
        ChargeModel.GRADUATED: {"graduated_ranges": [{**open_tier, "per_unit_amount": "0"}]},
        ChargeModel.GRADUATED_PERCENTAGE: {"graduated_percentage_ranges": [{**open_tier, "rate": "0"}]},
        ChargeModel.PACKAGE: {"amount": "0", "package_size": 1, "free_units": 0},
        ChargeModel.PERCENTAGE: {"rate": "0"},
        ChargeModel.VOLUME: {"volume_ranges": [{**open_tier, "per_unit_amount": "0"}]},
        ChargeModel.DYNAMIC: {},
    }


def test_units_alone_are_of_no_event() -> None:
    found = price(
        ChargeModel.PERCENTAGE,
        units=Decimal(10),
        properties={"rate": "10", "fixed_amount": "5"},
        currency="EUR",
    )
    assert found.amount == 1


def test_prices_from_the_calculator() -> None:
    """semantics-metering.md 7.13 #10: five units."""
    tiers = [
        {"from_value": 0, "to_value": 2, "per_unit_amount": "2", "flat_amount": "0"},
        {"from_value": 3, "to_value": None, "per_unit_amount": "3", "flat_amount": "0"},
    ]
    properties: dict[ChargeModel, dict[str, Any]] = {
        ChargeModel.STANDARD: {"amount": "10"},
        ChargeModel.GRADUATED: {"graduated_ranges": tiers},
        ChargeModel.PACKAGE: {"amount": "10", "package_size": 2, "free_units": 1},
        ChargeModel.VOLUME: {"volume_ranges": tiers},
    }
    amounts = [
        price(model, units=Decimal(5), properties=each, currency="EUR").amount
        for model, each in properties.items()
    ]
    assert amounts == [50, 13, 20, 15]


def test_foreign_properties_are_dropped() -> None:
    sent = {"amount": "1", "package_size": 3, "color": "red", "presentation_group_keys": [{"value": "a"}]}
    assert clean(ChargeModel.STANDARD, sent) == {
        "amount": "1",
        "presentation_group_keys": [{"value": "a"}],
    }


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"pricing_group_keys": ["a", "b"]}, {"pricing_group_keys": ["a", "b"]}),
        ({"grouped_by": ["a"]}, {"pricing_group_keys": ["a"]}),
        ({"grouped_by": ["a"], "pricing_group_keys": ["b"]}, {"pricing_group_keys": ["b"]}),
        ({"grouped_by": ["a"], "pricing_group_keys": []}, {"pricing_group_keys": ["a"]}),
        ({"pricing_group_keys": ["", "a"]}, {"pricing_group_keys": ["a"]}),
        ({"pricing_group_keys": [""]}, {}),
        ({"pricing_group_keys": []}, {}),
        ({"pricing_group_keys": None}, {}),
    ],
)
def test_group_keys_have_an_old_name(sent: dict[str, Any], kept: dict[str, Any]) -> None:
    assert clean(ChargeModel.DYNAMIC, sent) == kept
    assert pricing_keys(sent) == tuple(kept.get("pricing_group_keys", ()))


def shown(*values: str) -> dict[str, Any]:
    return {"presentation_group_keys": [{"value": value} for value in values]}


@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        ({"pricing_group_keys": ["a"]}, []),
        ({"pricing_group_keys": "a"}, ["invalid_type"]),
        ({"pricing_group_keys": [1]}, ["invalid_type"]),
        ({"pricing_group_keys": {"a": 1}}, ["invalid_type"]),
        (shown("a", "b"), []),
        (shown("a", "b", "c"), ["too_many_keys"]),
        (shown("a", "a"), ["value_is_duplicated"]),
        (shown("a", "a", "b"), ["too_many_keys", "value_is_duplicated"]),
        ({"presentation_group_keys": "a"}, ["invalid_type"]),
        ({"presentation_group_keys": ["a"]}, ["invalid_type"]),
        ({"presentation_group_keys": [{"value": ""}]}, ["invalid_type"]),
        ({"presentation_group_keys": [{"value": "a", "x": 1}]}, ["invalid_type"]),
        ({"presentation_group_keys": [{"value": "a", "options": {"display_in_invoice": True}}]}, []),
        (
            {"presentation_group_keys": [{"value": "a", "options": {"display_in_invoice": 1}}]},
            ["invalid_type"],
        ),
        ({"presentation_group_keys": [{"value": "a", "options": {}}]}, ["invalid_type"]),
    ],
)
def test_group_keys_are_checked_whatever_the_model(properties: dict[str, Any], codes: list[str]) -> None:
    assert validate(ChargeModel.DYNAMIC, properties) == codes


def tier_of(**amounts: Any) -> list[dict[str, Any]]:
    return [{"from_value": 0, "to_value": None, **amounts}]


AS_NUMBERS: dict[ChargeModel, dict[str, Any]] = {
    ChargeModel.STANDARD: {"amount": Decimal("0.030")},
    ChargeModel.PACKAGE: {"amount": 3, "package_size": Decimal("1000.0"), "free_units": Decimal("0E+2")},
    ChargeModel.GRADUATED: {"graduated_ranges": tier_of(per_unit_amount=Decimal("1E-7"), flat_amount=2)},
    ChargeModel.VOLUME: {
        "volume_ranges": tier_of(per_unit_amount=Decimal("1E+3"), flat_amount=Decimal("-0.0"))
    },
    ChargeModel.GRADUATED_PERCENTAGE: {"graduated_percentage_ranges": tier_of(rate=1, flat_amount=0)},
    ChargeModel.PERCENTAGE: {
        "rate": Decimal("2.5"),
        "fixed_amount": 1,
        "free_units_per_events": Decimal("3.00"),
        "free_units_per_total_aggregation": 10,
        "per_transaction_min_amount": Decimal("0.1"),
        "per_transaction_max_amount": 20**9,
    },
    ChargeModel.DYNAMIC: {},
    ChargeModel.CUSTOM: {"custom_properties": {"amount": Decimal("0.5"), "rate": 1}},
    ChargeModel.CATALOGUE: {"markup": Decimal("1.20"), "exchange_rate": 1},
}
AS_TEXTS: dict[ChargeModel, dict[str, Any]] = {
    ChargeModel.STANDARD: {"amount": "0.030"},
    ChargeModel.PACKAGE: {"amount": "3", "package_size": 1000, "free_units": 0},
    ChargeModel.GRADUATED: {"graduated_ranges": tier_of(per_unit_amount="0.0000001", flat_amount="2")},
    ChargeModel.VOLUME: {"volume_ranges": tier_of(per_unit_amount="1000", flat_amount="0")},
    ChargeModel.GRADUATED_PERCENTAGE: {"graduated_percentage_ranges": tier_of(rate="1", flat_amount="0")},
    ChargeModel.PERCENTAGE: {
        "rate": "2.5",
        "fixed_amount": "1",
        "free_units_per_events": 3,
        "free_units_per_total_aggregation": "10",
        "per_transaction_min_amount": "0.1",
        "per_transaction_max_amount": "512000000000",
    },
    ChargeModel.DYNAMIC: {},
    ChargeModel.CUSTOM: {"custom_properties": {"amount": Decimal("0.5"), "rate": 1}},
    ChargeModel.CATALOGUE: {"markup": "1.20", "exchange_rate": "1", "pricing_group_keys": list(GROUPS)},
}


@pytest.mark.parametrize("model", list(ChargeModel))
def test_amounts_as_numbers_are_the_same_as_texts(model: ChargeModel) -> None:
    cleaned = clean(model, AS_NUMBERS[model])
    assert repr(cleaned) == repr(AS_TEXTS[model])
    assert validate(model, cleaned) == []
    assert clean(model, cleaned) == cleaned


@pytest.mark.parametrize(
    "wrong", [True, -1, Decimal("-0.5"), Decimal("1e38"), 10**38, Decimal("1e999999"), Decimal("1e-39")]
)
def test_a_number_that_is_no_amount_is_refused(wrong: Any) -> None:
    assert validate(ChargeModel.STANDARD, clean(ChargeModel.STANDARD, {"amount": wrong})) == [
        "invalid_amount"
    ]
    tiers = clean(ChargeModel.VOLUME, {"volume_ranges": tier_of(per_unit_amount=wrong, flat_amount=0)})
    assert validate(ChargeModel.VOLUME, tiers) == ["invalid_amount"]


@pytest.mark.parametrize("wrong", [Decimal("0.5"), Decimal("-1.0"), True, "3"])
def test_a_whole_number_stays_whole(wrong: Any) -> None:
    sent = {"amount": 1, "package_size": wrong, "free_units": 0}
    assert validate(ChargeModel.PACKAGE, clean(ChargeModel.PACKAGE, sent)) == ["invalid_package_size"]


def test_every_file_is_a_model_of_the_list() -> None:
    shared = {"__init__", "price", "group_keys"}
    files = {path.stem for path in Path(models.__file__).parent.glob("*.py")} - shared
    assert files == {model.value for model in ChargeModel}
    assert all(callable(model_of(model).pricer) for model in ChargeModel)


def with_trait(name: str) -> set[str]:
    return {model.value for model in ChargeModel if getattr(model_of(model), name)}


def test_what_lago_does_with_each_model() -> None:
    """semantics-metering.md sections 1.10, 5.1, 5.12 and 6.5."""
    assert with_trait("in_advance") == set(ChargeModel) - {"volume", "catalogue"}
    assert with_trait("is_of_units") == {"standard", "graduated", "package", "volume"}
    assert with_trait("has_instant_price") == {"standard", "percentage"}
    assert with_trait("details_in_advance") == {"percentage", "graduated_percentage"}
    assert with_trait("is_of_changes") == {"graduated"}


def test_percentages_with_bounds_of_an_event_look_at_single_events() -> None:
    bounded = {"rate": "1", "per_transaction_min_amount": "2"}
    assert model_of(ChargeModel.PERCENTAGE).reads_events(bounded)
    assert not model_of(ChargeModel.PERCENTAGE).reads_events({"rate": "1"})
    assert not model_of(ChargeModel.STANDARD).reads_events(bounded)
