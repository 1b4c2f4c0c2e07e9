"""The steps of a formula add up to the price that the model gives, whatever the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.usage import Partial
from permille.core.money import exact, minor, round_cents
from permille.core.period import Period
from permille.core.rating.charge import compile_charge
from permille.core.rating.explanation import Step, charge_steps, plain, rounding_step
from permille.core.rating.fee import Fee
from permille.core.rating.models import ChargeModel, price
from permille.core.rating.proration import Proration
from permille.core.rating.rate import rate
from tests.core.given import in_period, ts

amounts = st.decimals("0", "1000", places=4).map(lambda value: format(value, "f"))
units = st.decimals("0", "100000", places=3)


def tiers(rate: str, *, flat: str, price_: str) -> list[dict[str, Any]]:
    return [
        {"from_value": 0, "to_value": 100, rate: price_, "flat_amount": flat},
        {"from_value": 101, "to_value": None, rate: "0.5", "flat_amount": "3"},
    ]


def properties(model: ChargeModel, amount: str, flat: str, size: int, free: int) -> dict[str, Any]:
    known: dict[ChargeModel, dict[str, Any]] = {
        ChargeModel.STANDARD: {"amount": amount},
        ChargeModel.PACKAGE: {"amount": amount, "package_size": size, "free_units": free},
        ChargeModel.GRADUATED: {"graduated_ranges": tiers("per_unit_amount", flat=flat, price_=amount)},
        ChargeModel.GRADUATED_PERCENTAGE: {
            "graduated_percentage_ranges": tiers("rate", flat=flat, price_=amount)
        },
        ChargeModel.VOLUME: {"volume_ranges": tiers("per_unit_amount", flat=flat, price_=amount)},
        ChargeModel.PERCENTAGE: {"rate": "1.5", "fixed_amount": flat},
        ChargeModel.DYNAMIC: {},
        ChargeModel.CATALOGUE: {},
    }
    return known[model]


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
        cents = round_cents(minor(found.amount, "USD"))
        rounding = rounding_step(steps, cents, "USD")
        assert found.amount + rounding.amount == Decimal(cents) / 100
    assert "share of the days" not in steps[0].text


JUNE = Period(ts(2024, 6, 1), ts(2024, 7, 1))


def fee_of(model: ChargeModel, own: dict[str, Any], *values: int, prorated: bool = False) -> Fee:
    """The fee of one value every tenth day of June."""
    charge = compile_charge(
        charge_id="charge",
        model=model,
        properties=own,
        filters=[],
        aggregation=aggregations.SUM,
        currency="USD",
        prorated=prorated,
    )
    instances = tuple(
        (JUNE.from_ + timedelta(days=10 * n), n, Decimal(value)) for n, value in enumerate(values)
    )
    partial = Partial(
        events_count=len(values),
        values_count=len(values),
        sum=Decimal(sum(values)),
        values=instances,
        precise_amount_cents=Decimal(sum(values)),
    )
    (fee,) = rate(
        charge, [({}, partial)], subscription_id="sub", rated=in_period(JUNE, by=Proration("UTC", 30))
    )
    return fee


def steps_of(fee: Fee, model: ChargeModel, *, prorated: bool = False) -> Sequence[Step]:
    """The steps told from what the fee keeps; they add up to its amount, as far as the fee keeps the price."""
    with exact():
        amount = fee.precise_amount_cents / 100
        steps = charge_steps(
            model,
            units=fee.units,
            unit_amount=fee.precise_unit_amount,
            amount=amount,
            details=fee.amount_details,
            prorated=prorated,
        )
        assert abs(sum((step.amount for step in steps), Decimal(0)) - amount) < Decimal("1e-12"), steps
    return steps


TIERED = tiers("per_unit_amount", flat="2", price_="0.5")
BOUNDS = {"per_transaction_min_amount": "2", "per_transaction_max_amount": "3.5"}


@pytest.mark.parametrize(
    ("model", "own", "values", "texts"),
    [
        (ChargeModel.STANDARD, {"amount": "0.25"}, [1500], ["1,500 units x 0.25 = 375"]),
        (
            ChargeModel.PACKAGE,
            {"amount": "3", "package_size": 100, "free_units": 0},
            [101],
            ["101 units, in packages of 100 begun: 2 x 3 = 6"],
        ),
        (
            ChargeModel.GRADUATED,
            {"graduated_ranges": TIERED},
            [90, 30],
            ["from 0 to 100: 100 units x 0.5 + 2 = 52", "from 101 on: 20 units x 0.5 + 3 = 13"],
        ),
        (
            ChargeModel.GRADUATED_PERCENTAGE,
            {"graduated_percentage_ranges": tiers("rate", flat="2", price_="1.5")},
            [90, 30],
            ["from 0 to 100: 100 units x 1.5 % + 2 = 3.5", "from 101 on: 20 units x 0.5 % + 3 = 3.1"],
        ),
        (
            ChargeModel.VOLUME,
            {"volume_ranges": TIERED},
            [40],
            ["all 40 units at the price of their range: x 0.5 = 20", "the range's flat amount: 2"],
        ),
        (ChargeModel.PERCENTAGE, {"rate": "1.5"}, [40, 60], ["1.5 % of 100 units (0 are free) = 1.5"]),
        (
            ChargeModel.PERCENTAGE,
            {"rate": "10", "fixed_amount": "1", "free_units_per_events": 1},
            [40, 60, 5],
            ["10 % of 65 units (40 are free) = 6.5", "2 events x 1 = 2"],
        ),
        (
            # 2 at least, 3.5 at most, 2.5: 8 where the plain rate gives 15.5
            ChargeModel.PERCENTAGE,
            {"rate": "10"} | BOUNDS,
            [10, 120, 25],
            ["10 % of 155 units (0 are free) = 15.5", "the least and the most that an event costs: -7.5"],
        ),
        (ChargeModel.DYNAMIC, {}, [7, 3], ["the prices that 10 units were sent with, added up"]),
    ],
)
def test_a_price_in_words(
    model: ChargeModel, own: dict[str, Any], values: list[int], texts: list[str]
) -> None:
    assert [step.text for step in steps_of(fee_of(model, own, *values), model)] == texts


NEGATIVE: list[tuple[ChargeModel, dict[str, Any]]] = [
    (ChargeModel.STANDARD, {"amount": "2"}),
    (ChargeModel.PACKAGE, {"amount": "2", "package_size": 5, "free_units": 1}),
    (ChargeModel.GRADUATED, {"graduated_ranges": TIERED}),
    (ChargeModel.GRADUATED_PERCENTAGE, {"graduated_percentage_ranges": tiers("rate", flat="2", price_="9")}),
    (ChargeModel.VOLUME, {"volume_ranges": TIERED}),
    (ChargeModel.PERCENTAGE, {"rate": "10", "fixed_amount": "1"}),
    (ChargeModel.DYNAMIC, {}),
]


@pytest.mark.parametrize(("model", "own"), NEGATIVE)
def test_negative_usage_costs_nothing_whatever_the_details_say(
    model: ChargeModel, own: dict[str, Any]
) -> None:
    fee = fee_of(model, own, 30, -150)
    assert fee.amount_cents == 0
    steps = steps_of(fee, model)
    if model is ChargeModel.GRADUATED:
        assert [(step.text, step.amount) for step in steps] == [("usage below zero costs nothing", 0)]


def test_units_that_were_there_for_a_share_of_the_days_cost_that() -> None:
    """10 for all days and 7 for 20 of 30: 14.66667 at 3. Where all is gone again 10 days of 4 are still paid for."""
    model, own = ChargeModel.STANDARD, {"amount": "3"}
    (step,) = steps_of(fee_of(model, own, 10, 7, prorated=True), model, prorated=True)
    assert (step.amount, step.text) == (
        Decimal("44.00001"),
        "17 units, each for the days on which it was there: 44.00001",
    )
    (gone,) = steps_of(fee_of(model, own, 4, -4, prorated=True), model, prorated=True)
    assert gone.amount == Decimal("4.00002")
    graduated = fee_of(ChargeModel.GRADUATED, {"graduated_ranges": TIERED}, 90, 30, prorated=True)
    assert len(steps_of(graduated, ChargeModel.GRADUATED, prorated=True)) == 1


def test_a_custom_price_in_words() -> None:
    (step,) = charge_steps(
        ChargeModel.CUSTOM, units=Decimal(12), unit_amount=Decimal(2), amount=Decimal(24), details={}
    )
    assert step == Step("what the metric's own rule adds for each event, of 12 units", Decimal(24))


def test_a_price_of_more_digits_than_a_fee_keeps_is_explained_by_its_amount() -> None:
    model = ChargeModel.STANDARD
    (step,) = steps_of(fee_of(model, {"amount": "0.00000000000000049"}, 7), model)
    assert step.text == "7 units x 0 = 0"
    (step,) = steps_of(fee_of(model, {"amount": "0.00000000000000049"}, 7_000_000), model)
    assert step.text == "7,000,000 units x about 0 = 0.00000000343"


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
