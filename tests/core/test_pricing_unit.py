"""Prices in units of an organization's own: as if in a currency of two decimals, then converted (semantics-metering.md 5.14)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.usage import AdvanceEvent, Partial
from permille.core.money import CURRENCIES, LineAmounts, exact, subunits
from permille.core.period import Period
from permille.core.rating.advance import event_fees, fee_of_nothing, instant_fee
from permille.core.rating.charge import CompiledCharge, compile_charge
from permille.core.rating.explanation import Step, conversion_steps, rounding_step
from permille.core.rating.fee import Fee
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.minimum_charge import true_up_fee
from permille.core.rating.models import ChargeModel
from permille.core.rating.pricing_unit import AppliedPricingUnit, InUnit, PricingUnit, owed
from permille.core.rating.projection import elapsed_share, project
from permille.core.rating.proration import Proration
from permille.core.rating.rate import rate as fees_of
from tests.core.given import in_period

from .given import decimals

JUNE = Period(datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC))
BY = Proration("UTC", 30)
TENTH = elapsed_share(datetime(2024, 6, 3, 9, tzinfo=UTC), JUNE, "UTC")
ZERO = Decimal(0)

rates = decimals("0.000001", "1000", 6)
amounts = decimals("0", "100000", 7)
quantities = decimals("0", "500", 3)
currencies = st.sampled_from(sorted(CURRENCIES))

TIERS = [
    {"from_value": 0, "to_value": 100, "per_unit_amount": "0.123", "flat_amount": "2.005"},
    {"from_value": 101, "to_value": None, "per_unit_amount": "0.0456", "flat_amount": "3"},
]
SHARES = [{"from_value": 0, "to_value": None, "rate": "7.7", "flat_amount": "1"}]
MODELS: list[tuple[ChargeModel, dict[str, Any]]] = [
    (ChargeModel.STANDARD, {"amount": "0.3715"}),
    (ChargeModel.PACKAGE, {"amount": "5.005", "package_size": 3, "free_units": 2}),
    (ChargeModel.GRADUATED, {"graduated_ranges": TIERS}),
    (ChargeModel.GRADUATED_PERCENTAGE, {"graduated_percentage_ranges": SHARES}),
    (ChargeModel.VOLUME, {"volume_ranges": TIERS}),
    (ChargeModel.PERCENTAGE, {"rate": "1.3", "fixed_amount": "0.5"}),
]
IN_ADVANCE = [one for one in MODELS if one[0] is not ChargeModel.VOLUME]


def applied(rate: Decimal | str) -> AppliedPricingUnit:
    unit = PricingUnit(
        id=UUID(int=1),
        code="credits",
        name="Credits",
        short_name="CR",
        description=None,
        created_at=JUNE.from_,
    )
    return AppliedPricingUnit(unit=unit, conversion_rate=Decimal(rate))


def half_away(value: Fraction) -> int:
    """Told without decimals: the nearest whole number, the greater one in the middle. For values of 0 or more."""
    whole, rest = divmod(value.numerator, value.denominator)
    return whole + (2 * rest >= value.denominator)


def digits(value: Decimal) -> Fraction:
    return Fraction(value)


def fifteen(value: Fraction) -> Fraction:
    return Fraction(half_away(value * 10**15), 10**15)


def check_converted(fee_cents: int, precise: Decimal, in_unit: InUnit | None, currency: str) -> None:
    """The money of a line is that of its rounded amount in units, and of nothing else."""
    assert in_unit is not None
    worth = Fraction(in_unit.amounts.amount_cents) * digits(in_unit.applied.conversion_rate)
    cents = worth * subunits(currency) / 100
    assert fee_cents == half_away(cents)
    assert digits(precise) == fifteen(cents)


@pytest.mark.parametrize(
    ("amount", "unit_amount", "rate", "units", "money"),
    [
        ("300", "1", "0.5", (30_000, "30000", 100, "1"), (15_000, "15000", 50, "0.5")),
        (
            "10655.243249",
            "5.5423123",
            "0.0075",
            (1_065_524, "1065524.3249", 554, "5.5423123"),
            (7_991, "7991.43", 4, "0.04156734225"),
        ),
    ],
)
def test_the_published_figures(amount: str, unit_amount: str, rate: str, units: Any, money: Any) -> None:
    with exact():
        found = owed(Decimal(amount), Decimal(unit_amount), per_unit=100, applied=applied(rate))
    assert found.in_unit is not None
    for shown, expected in ((found.in_unit.amounts, units), (found.money, money)):
        assert shown == LineAmounts(expected[0], Decimal(expected[1]), expected[2], Decimal(expected[3]))


@given(amount=amounts, unit_amount=amounts, rate=rates, currency=currencies)
def test_a_conversion_is_rounded_in_units_and_once_more_in_money(
    amount: Decimal, unit_amount: Decimal, rate: Decimal, currency: str
) -> None:
    with exact():
        money, in_unit = owed(amount, unit_amount, per_unit=subunits(currency), applied=applied(rate))
    check_converted(money.amount_cents, money.precise_amount_cents, in_unit, currency)
    assert in_unit is not None
    assert in_unit.amounts.amount_cents == half_away(digits(amount) * 100)
    assert digits(in_unit.amounts.precise_amount_cents) == fifteen(digits(amount) * 100)
    price = digits(unit_amount) * digits(rate)
    assert digits(money.precise_unit_amount) == fifteen(price)
    assert money.unit_amount_cents == int(price * subunits(currency)), "cut off"


@given(amount=amounts, unit_amount=amounts)
def test_without_a_unit_there_is_nothing_to_convert(amount: Decimal, unit_amount: Decimal) -> None:
    with exact():
        money, in_unit = owed(amount, unit_amount, per_unit=1000, applied=None)
    assert in_unit is None
    assert money.amount_cents == half_away(digits(amount) * 1000)


def compiled(
    model: ChargeModel, properties: dict[str, Any], *, currency: str = "USD", **more: Any
) -> CompiledCharge:
    given_: dict[str, Any] = {
        "charge_id": "charge",
        "model": model,
        "properties": properties,
        "filters": [
            ChargeFilter("a", {"cloud": ("a",)}, "A", properties | {"pricing_group_keys": ["region"]})
        ],
        "aggregation": aggregations.SUM,
        "currency": currency,
    }
    return compile_charge(**(given_ | more))


def used(units: list[Decimal]) -> list[tuple[dict[str, str | None], Partial]]:
    places: list[dict[str, str | None]] = [
        {"cloud": "a", "region": "eu"},
        {"cloud": "a", "region": "us"},
        {"cloud": "b"},
    ]
    return [
        (places[i % 3], Partial(events_count=1, values_count=1, sum=each)) for i, each in enumerate(units)
    ]


def check_like_dollars(fees: list[Fee], in_dollars: list[Fee], currency: str) -> None:
    """Fees in units are those of the same charge in a currency of two decimals, converted."""
    assert len(fees) == len(in_dollars)
    for fee, other in zip(fees, in_dollars, strict=True):
        check_converted(fee.amount_cents, fee.precise_amount_cents, fee.in_unit, currency)
        assert fee.in_unit is not None
        assert fee.in_unit.amounts == LineAmounts(
            other.amount_cents,
            other.precise_amount_cents,
            other.unit_amount_cents,
            other.precise_unit_amount,
        )
        assert (fee.units, fee.amount_details, fee.grouped_by) == (
            other.units,
            other.amount_details,
            other.grouped_by,
        )
        assert fee.priced_cents == other.priced_cents


@pytest.mark.parametrize(("model", "properties"), MODELS)
@given(units=st.lists(quantities, max_size=7), rate=rates, currency=currencies, least=st.integers(0, 90_000))
def test_fees_and_what_they_lack_of_the_minimum_charge(
    model: ChargeModel,
    properties: dict[str, Any],
    *,
    units: list[Decimal],
    rate: Decimal,
    currency: str,
    least: int,
) -> None:
    in_units = compiled(
        model, properties, currency=currency, applied_pricing_unit=applied(rate), min_amount_cents=least
    )
    in_dollars = compiled(model, properties, min_amount_cents=least)
    part = Period(JUNE.from_ + timedelta(days=7), JUNE.to)
    found: list[list[Fee]] = []
    for charge in (in_units, in_dollars):
        fees = fees_of(charge, used(units), subscription_id="sub", rated=in_period(part))
        missing = true_up_fee(charge, fees, rated=in_period(part, by=BY))
        found.append([*fees, *([missing] if missing else [])])
    check_like_dollars(found[0], found[1], currency)
    total = sum(fee.priced_cents[0] for fee in found[0])
    assert total >= half_away(Fraction(least * 23, 30))
    if found[0][-1].is_true_up:
        assert total == half_away(Fraction(least * 23, 30)), "the parts make up the whole"


def test_the_published_minimum_charge() -> None:
    """semantics-metering.md 7.13 #6: at a rate of 0.25, 700 of 1000 hundredths used."""
    charge = compiled(
        ChargeModel.STANDARD,
        {"amount": "1"},
        filters=[],
        applied_pricing_unit=applied("0.25"),
        min_amount_cents=1_000,
    )
    one = Partial(events_count=1, values_count=1, sum=Decimal(7))
    fees = fees_of(charge, [({}, one)], subscription_id="sub", rated=in_period(JUNE))
    missing = true_up_fee(charge, fees, rated=in_period(JUNE, by=BY))
    assert missing is not None
    assert missing.in_unit is not None
    assert missing.in_unit.amounts == LineAmounts(300, Decimal(300), 300, Decimal(3))
    assert (missing.amount_cents, missing.unit_amount_cents) == (75, 75)
    assert missing.precise_unit_amount == Decimal("0.75")


def events(values: list[Decimal]) -> list[AdvanceEvent]:
    return [
        AdvanceEvent(
            seq=seq,
            at=JUNE.from_ + timedelta(hours=seq),
            dimensions={"cloud": "ab"[seq % 2], "region": "eu"},
            value=value,
            text=None,
            is_add=True,
        )
        for seq, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(("model", "properties"), IN_ADVANCE)
@given(values=st.lists(quantities, min_size=1, max_size=6), rate=rates, currency=currencies)
def test_fees_of_events(
    model: ChargeModel, properties: dict[str, Any], *, values: list[Decimal], rate: Decimal, currency: str
) -> None:
    in_units = compiled(
        model, properties, currency=currency, applied_pricing_unit=applied(rate), pay_in_advance=True
    )
    in_dollars = compiled(model, properties, pay_in_advance=True)
    sent = events(values)
    found = []
    for charge in (in_units, in_dollars):
        fees, _ = event_fees(
            charge,
            sent,
            billed=range(len(sent) + 1),
            carried_over={},
            subscription_id="sub",
            period=JUNE,
            proration=BY,
        )
        nothing = fee_of_nothing(charge, sent[0], subscription_id="sub", period=JUNE, proration=BY)
        alone = instant_fee(charge, sent[0], units=values[0], subscription_id="sub", period=JUNE)
        found.append([*(fee for _, fee in fees), nothing, alone])
    check_like_dollars(found[0], found[1], currency)


@pytest.mark.parametrize(("model", "properties"), MODELS)
@pytest.mark.parametrize("recurring", [True, False])
@given(units=st.lists(quantities, max_size=4), rate=rates, currency=currencies)
def test_projections(
    model: ChargeModel,
    properties: dict[str, Any],
    *,
    recurring: bool,
    units: list[Decimal],
    rate: Decimal,
    currency: str,
) -> None:
    in_units = compiled(model, properties, currency=currency, applied_pricing_unit=applied(rate))
    in_dollars = compiled(model, properties)
    both = [
        fees_of(one, used(units), subscription_id="sub", rated=in_period(JUNE))
        for one in (in_units, in_dollars)
    ]
    for fee, other in zip(*both, strict=True):
        projected = project(in_units, fee, recurring=recurring, elapsed=TENTH)
        expected = project(in_dollars, other, recurring=recurring, elapsed=TENTH)
        assert (projected.units, projected.in_unit_cents) == (expected.units, expected.amount_cents)
        worth = Fraction(projected.in_unit_cents) * digits(rate) * subunits(currency) / 100
        assert projected.amount_cents == half_away(worth)
        assert expected.in_unit_cents == 0


@given(parts=st.lists(amounts, max_size=4), rate=rates, currency=currencies)
def test_the_steps_of_a_conversion_add_up_to_the_money(
    parts: list[Decimal], rate: Decimal, currency: str
) -> None:
    with exact():
        amount = sum(parts, ZERO)
        money, in_unit = owed(amount, ZERO, per_unit=subunits(currency), applied=applied(rate))
    assert in_unit is not None
    steps = conversion_steps(
        [Step("a part", part) for part in parts],
        amount_cents=in_unit.amounts.amount_cents,
        short_name="CR",
        conversion_rate=rate,
        currency=currency,
    )
    rounding = rounding_step(steps, money.amount_cents, currency)
    with exact():
        before = sum((step.amount for step in steps), ZERO)
        assert before * subunits(currency) == money.precise_amount_cents
        assert before + rounding.amount == Decimal(money.amount_cents) / subunits(currency)


def test_a_conversion_in_words() -> None:
    steps = conversion_steps(
        [Step("7 units x 0.12345 = 0.86415", Decimal("0.86415"))],
        amount_cents=86,
        short_name="CR",
        conversion_rate=Decimal("0.5"),
        currency="USD",
    )
    assert [step.text for step in steps] == [
        "7 units x 0.12345 = 0.86415",
        "0.86415 CR to the hundredth, half away from zero: 0.86",
        "0.86 CR x 0.5 = 0.43 USD",
    ]
