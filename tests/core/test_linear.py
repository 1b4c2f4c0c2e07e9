"""What linear charges come to for many at once, against the fees that `rate` makes for each."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from permille.core.metering.aggregations import COUNT, MAX, SUM
from permille.core.metering.usage import Partial, merged
from permille.core.money import exact
from permille.core.period import Period
from permille.core.rating.charge import CompiledCharge, Place, compile_charge, series_place
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.linear import is_linear, line_cents, units_of
from permille.core.rating.models import ChargeModel
from permille.core.rating.models.catalogue import with_prices
from permille.core.rating.pricing_unit import AppliedPricingUnit, PricingUnit
from permille.core.rating.proration import Proration, RatedPeriod
from permille.core.rating.rate import owed_cents, price_usage, rate
from permille.core.rating.rounding import Rounding

JUNE = Period(datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC))
RATED = RatedPeriod(JUNE, 30 * 86_400, Proration("UTC", 30))
CREDITS = PricingUnit(
    id=UUID(int=1), code="credits", name="Credits", short_name="CR", description=None, created_at=JUNE.from_
)
MODELS, TYPES = ["a", "b", None], ["input", "output", "other"]


def a_charge(chance: random.Random, **more: Any) -> CompiledCharge:
    def properties() -> dict[str, Any]:
        if more.get("model") is ChargeModel.CATALOGUE:
            prices = [
                {
                    "provider": "p",
                    "model": m,
                    "type": t,
                    "amount": f"0.{chance.randrange(1, 999)}",
                    "per": per,
                }
                for m in ("a", "b")
                for t, per in (("input", chance.choice([1, 3, 7, 1000])), ("output", 10))
            ]
            return with_prices({"prices": prices}, None, "llm_tokens")
        groups = {"pricing_group_keys": ["type"]} if chance.random() < 0.5 else {}
        return {"amount": f"0.{chance.randrange(1, 99):03}", **groups}

    chosen: dict[str, Any] = {
        "model": ChargeModel.STANDARD,
        "aggregation": SUM,
        "rounding": chance.choice(list(Rounding)),
        "filters": [
            ChargeFilter(number, {"model": (model,)}, None, properties())
            for number, model in enumerate(chance.sample(["a", "b"], chance.randrange(3)))
        ],
        "currency": chance.choice(["USD", "JPY", "KWD"]),
        **more,
    }
    return compile_charge(charge_id="c", properties=properties(), **chosen)


def test_lines_owe_what_their_fees_do() -> None:
    chance = random.Random(3)
    owing = 0
    for number in range(150):
        model = chance.choice([ChargeModel.STANDARD, ChargeModel.CATALOGUE])
        counts = number % 5 == 0 and model is ChargeModel.STANDARD
        charge = a_charge(chance, model=model, aggregation=COUNT if counts else SUM)
        assert is_linear(charge)
        used: dict[Place, dict[int, list[Partial]]] = defaultdict(lambda: defaultdict(list))
        expected: dict[Place, dict[int, int]] = defaultdict(dict)
        for whose in range(3):
            series = []
            for _ in range(chance.randrange(7)):
                texts = {"provider": "p", "model": chance.choice(MODELS), "type": chance.choice(TYPES)}
                total = Decimal(chance.randrange(-300, 2_000)) / chance.choice([1, 10, 1000])
                series.append(
                    (texts, Partial(events_count=chance.randrange(1, 4), values_count=1, sum=total))
                )
            for texts, partial in series:
                used[series_place(charge, texts)][whose].append(partial)
            for fee in rate(charge, series, subscription_id=whose, rated=RATED, with_idle=False):
                bucket = next(
                    i
                    for i, each in enumerate(charge.buckets)
                    if each.charge_filter_id == fee.charge_filter_id
                )
                expected[bucket, tuple(fee.grouped_by.items())][whose] = fee.amount_cents
                owing += fee.amount_cents > 0
        together = {}
        for place, by_whose in used.items():
            partials = [merged(each) for each in by_whose.values()]
            counted = [each.events_count for each in partials]
            together[place] = list(by_whose), units_of(charge, counted, [each.sum for each in partials])
        found = {
            place: dict(zip(whose, cents, strict=True))
            for place, whose, cents in line_cents(charge, together)
        }
        assert found == expected
    assert owing > 300


def test_priced_usage_owes_what_its_fees_do() -> None:
    chance = random.Random(5)
    owing = 0
    for _ in range(150):
        model = chance.choice([ChargeModel.STANDARD, ChargeModel.CATALOGUE])
        applied = AppliedPricingUnit(unit=CREDITS, conversion_rate=Decimal("0.37"))
        charge = a_charge(chance, model=model, applied_pricing_unit=chance.choice([None, applied]))
        series = [
            (
                {"provider": "p", "model": chance.choice(MODELS), "type": chance.choice(TYPES)},
                Partial(events_count=1, values_count=1, sum=Decimal(chance.randrange(-300, 2_000)) / 8),
            )
            for _ in range(chance.randrange(9))
        ]
        fees = rate(charge, series, subscription_id="s", rated=RATED)
        with exact():
            priced = list(price_usage(charge, series, rated=RATED))
            found = list(owed_cents(charge, priced))
        assert found == [(fee.amount_cents, fee.in_unit) for fee in fees]
        owing += sum(cents > 0 for cents, _ in found)
    assert owing > 200


def test_what_depends_on_more_than_units_and_group_is_not_linear() -> None:
    chance = random.Random(4)
    assert not is_linear(a_charge(chance, aggregation=MAX))
    assert not is_linear(a_charge(chance, prorated=True))
    assert not is_linear(a_charge(chance, pay_in_advance=True))
    assert not is_linear(a_charge(chance, rounding_function="ceil"))
