"""custom: the amount is the fold's; which properties a rule may look at."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permille.core.rating.models import ChargeModel, Price, Quantity, clean, defaults, pricer, validate


@pytest.mark.parametrize(
    ("units", "full_units", "expected"), [("4", None, "2.5"), ("0", None, "0"), ("4", "8", "1.25")]
)
def test_the_amount_is_what_the_rules_added(units: str, full_units: str | None, expected: str) -> None:
    quantity = Quantity(
        units=Decimal(units),
        full_units=None if full_units is None else Decimal(full_units),
        custom_amount=Decimal(10),
    )
    assert pricer(ChargeModel.CUSTOM, {})(quantity) == Price(Decimal(10), Decimal(expected), {})


@pytest.mark.parametrize(
    ("given", "is_fine"),
    [
        ({}, True),
        (None, True),
        ({"a": 1, "b_2": Decimal("0.5"), "C": "text", "d": ""}, True),
        ({"a": "x" * 255}, True),
        ({f"a{n}": n for n in range(100)}, True),
        ({f"a{n}": n for n in range(101)}, False),
        ({"a": "x" * 256}, False),
        ({"a": None}, False),
        ({"a": True}, False),
        ({"a": 10**38}, False),
        ({"a": Decimal("1e-39")}, False),
        ({"a": [1]}, False),
        ({"a": {"b": 1}}, False),
        ({"": 1}, False),
        ({"n" * 255: 1}, True),
        ({"n" * 256: 1}, False),
        ({"1a": 1}, False),
        ({"a-b": 1}, False),
        ({"a.b": 1}, False),
        ({"é": 1}, False),
        ([], False),
        ("a", False),
    ],
)
@pytest.mark.parametrize("model", [ChargeModel.CUSTOM, ChargeModel.DYNAMIC])
def test_properties_that_a_rule_may_look_at(model: ChargeModel, given: Any, is_fine: bool) -> None:
    codes = [] if is_fine else ["invalid_custom_properties"]
    assert validate(model, {"custom_properties": given}) == codes


def test_they_are_kept_for_the_rules_alone() -> None:
    sent = {"custom_properties": {"a": 1}, "amount": "1", "other": 2}
    assert defaults(ChargeModel.CUSTOM) == {}
    assert clean(ChargeModel.CUSTOM, sent) == {"custom_properties": {"a": 1}}
    assert clean(ChargeModel.STANDARD, sent) == {"amount": "1"}
    assert clean(ChargeModel.STANDARD, sent, of_custom_metric=True) == {
        "custom_properties": {"a": 1},
        "amount": "1",
    }
