"""The steps of a formula add up to the price that the model gives, whatever the numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.explanation import charge_steps, plain, rounding_step
from permille.core.money import exact, round_to_minor
from permille.core.pricing import ChargeModel, price

amounts = st.decimals("0", "1000", places=4).map(lambda value: format(value, "f"))
units = st.decimals("0", "100000", places=3)


def tiers(rate: str, *, flat: str, price_: str) -> list[dict[str, Any]]:
    return [
        {"from_value": 0, "to_value": 100, rate: price_, "flat_amount": flat},
        {"from_value": 101, "to_value": None, rate: "0.5", "flat_amount": "3"},
    ]


def properties(model: ChargeModel, amount: str, flat: str, size: int, free: int) -> dict[str, Any]:
    return {
        ChargeModel.STANDARD: {"amount": amount},
        ChargeModel.PACKAGE: {"amount": amount, "package_size": size, "free_units": free},
        ChargeModel.GRADUATED: {"graduated_ranges": tiers("per_unit_amount", flat=flat, price_=amount)},
        ChargeModel.GRADUATED_PERCENTAGE: {
            "graduated_percentage_ranges": tiers("rate", flat=flat, price_=amount)
        },
        ChargeModel.VOLUME: {"volume_ranges": tiers("per_unit_amount", flat=flat, price_=amount)},
        ChargeModel.PERCENTAGE: {"rate": "1.5", "fixed_amount": flat},
        ChargeModel.DYNAMIC: {},
    }[model]


MODELS = [model for model in ChargeModel if model is not ChargeModel.CUSTOM]


@pytest.mark.parametrize("model", MODELS)
@given(used=units, amount=amounts, flat=amounts, size=st.integers(1, 5000), free=st.integers(0, 5000))
def test_the_steps_add_up(
    model: ChargeModel, *, used: Decimal, amount: str, flat: str, size: int, free: int
) -> None:
    found = price(
        model,
        units=used,
        properties=properties(model, amount, flat, size, free),
        currency="USD",
        events_count=7,
        precise_amount_cents=Decimal("123.45"),
    )
    steps = charge_steps(
        model, units=used, unit_amount=found.unit_amount, amount=found.amount, details=found.details
    )
    with exact():
        assert sum((step.amount for step in steps), Decimal(0)) == found.amount, steps
        cents = round_to_minor(found.amount, "USD")
        rounding = rounding_step(steps, cents, "USD")
        assert found.amount + rounding.amount == Decimal(cents) / 100


def test_a_package_in_words() -> None:
    found = price(
        ChargeModel.PACKAGE,
        units=Decimal(1_250_001),
        properties={"amount": "0.03", "package_size": 1000, "free_units": 500},
        currency="USD",
    )
    (step,) = charge_steps(
        ChargeModel.PACKAGE,
        units=Decimal(1_250_001),
        unit_amount=found.unit_amount,
        amount=found.amount,
        details=found.details,
    )
    assert step.text == (
        "1,250,001 units - 500 free = 1,249,501, in packages of 1,000 begun: 1,250 x 0.03 = 37.5"
    )
    assert plain(Decimal("1000.00")) == "1,000"
