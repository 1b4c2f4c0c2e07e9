"""Fixed charges: the vectors of semantics-billing.md 12.4 and 12.9, and a slow oracle of prorated units."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import example, given, strategies as st

from permille.core.period import Period
from permille.core.rating.fixed_charge import (
    FixedPeriod,
    FixedPrice,
    UnitsChange,
    fee_in_advance,
    fee_in_arrears,
    in_effect,
    less_what_was_paid,
    paid_share,
    units_at,
)
from permille.core.rating.models import ChargeModel

from .given import ts


def price(amount="1", *, model=ChargeModel.STANDARD, prorated=True, in_advance=True, properties=None):
    return FixedPrice(
        id="seats",
        model=model,
        properties=properties or {"amount": amount},
        pay_in_advance=in_advance,
        prorated=prorated,
        currency="EUR",
        invoice_display_name="Seats",
    )


def month(year, number, *, since=None, until=None):
    whole = Period(ts(year, number, 1), ts(year + number // 12, number % 12 + 1, 1))
    return FixedPeriod(whole=whole, part=Period(since or whole.from_, until or whole.to), timezone="UTC")


@pytest.mark.parametrize(
    ("units", "amount", "period", "cents"),
    [
        (10, "1", month(2023, 7, since=ts(2023, 7, 19, 12, 12)), 419),
        (5, "3", month(2023, 7, since=ts(2023, 7, 19, 12, 12)), 629),
        (10, "10", month(2023, 8, since=ts(2023, 8, 21, 12)), 3_548),
        (1, "20", month(2023, 8, since=ts(2023, 8, 21, 12)), 710),
        (7, "2.5", month(2024, 2, since=ts(2024, 2, 29, 23)), 60),
        (10, "1", month(2023, 8), 1_000),
    ],
)
def test_in_advance_the_days_that_are_left_are_paid(units, amount, period, cents):
    fee = fee_in_advance(price(amount), Decimal(units), period, subscription_id="sub")
    assert (fee.amount_cents, fee.units, fee.kind, fee.pay_in_advance) == (cents, units, "fixed_charge", True)
    whole = fee_in_advance(price(amount, prorated=False), Decimal(units), period, subscription_id="sub")
    assert whole.amount_cents == units * Decimal(amount) * 100


def test_no_units_cost_nothing_also_where_a_tier_has_a_flat_amount():
    """Fewer units than were billed make a fee of nothing (V-110), whatever the price."""
    tier = {"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "3"}
    graduated = price(model=ChargeModel.GRADUATED, prorated=False, properties={"graduated_ranges": [tier]})
    fees = [
        fee_in_advance(graduated, Decimal(units), month(2023, 8), subscription_id="sub") for units in (0, 2)
    ]
    assert [(fee.units, fee.amount_cents) for fee in fees] == [(0, 0), (2, 500)]


@pytest.mark.parametrize(
    ("paid", "days", "of", "new", "left"),
    [
        (1_500, 11, 31, 3_548, 3_016),
        (484, 10, 10, 3_226, 2_742),
        (1_065, 10, 22, 3_226, 2_742),
        (900, 5, 10, 100, 0),
    ],
)
def test_what_was_paid_for_the_same_days_is_taken_off(paid, days, of, new, left):
    fee = fee_in_advance(
        price(str(Decimal(new) / 100), prorated=False), Decimal(1), month(2023, 8), subscription_id="s"
    )
    cents = paid_share(paid, days=days, of_days=of)
    assert less_what_was_paid(fee, paid_cents=cents, currency="EUR").amount_cents == left


def test_in_arrears_an_end_inside_the_period_counts_its_day():
    period = month(2023, 8, until=ts(2023, 8, 21, 12))
    start = [UnitsChange(Decimal(10), ts(2023, 7, 19))]
    assert fee_in_arrears(price(in_advance=False), start, period, subscription_id="s").amount_cents == 677
    whole = fee_in_arrears(price(in_advance=False, prorated=False), start, period, subscription_id="s")
    assert whole.amount_cents == 1_000


def test_a_later_change_that_counts_earlier_takes_the_place_of_one_that_was_to_come():
    changes = [
        UnitsChange(Decimal(10), ts(2024, 3, 1)),
        UnitsChange(Decimal(15), ts(2024, 4, 1)),
        UnitsChange(Decimal(12), ts(2024, 3, 10)),
    ]
    assert [change.units for change in in_effect(changes)] == [10, 12]
    assert units_at(changes, ts(2024, 4, 1)) == 12
    assert units_at(changes, ts(2024, 3, 9)) == 10
    assert units_at(changes, ts(2024, 2, 1)) == 0


TIERS = {
    "graduated_ranges": [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "1"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "5"},
    ]
}
VOLUME = {
    "volume_ranges": [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "1"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
    ]
}


def test_tiers_price_units_as_they_price_usage():
    changes = [UnitsChange(Decimal(12), ts(2024, 2, 1))]
    graduated = price(model=ChargeModel.GRADUATED, properties=TIERS, prorated=False, in_advance=False)
    fee = fee_in_arrears(graduated, changes, month(2024, 3), subscription_id="s")
    assert fee.amount_cents == 100 + 2_000 + 500 + 200
    volume = price(model=ChargeModel.VOLUME, properties=VOLUME, in_advance=False)
    half = month(2024, 4, until=ts(2024, 4, 16))
    assert fee_in_arrears(volume, changes, half, subscription_id="s").amount_cents == 600
    prorated = price(model=ChargeModel.GRADUATED, properties=TIERS, in_advance=False)
    assert fee_in_arrears(prorated, changes, half, subscription_id="s").amount_cents == 600 + 1_100


DAYS = st.integers(0, 40)


@given(
    st.lists(st.tuples(DAYS, st.integers(0, 23), st.integers(0, 50)), min_size=1, max_size=6),
    st.integers(1, 31),
)
@example([(0, 0, 10), (20, 0, 0)], 31)
@example([(0, 0, 1), (11, 0, 0)], 2)
def test_prorated_units_are_the_sum_of_their_days(drawn, last_day):
    """An oracle that walks the days: the units of a day are those of its last change."""
    first = datetime(2024, 2, 20, tzinfo=UTC)
    changes = [
        UnitsChange(Decimal(units), first + timedelta(days=day, hours=hour)) for day, hour, units in drawn
    ]
    until = datetime(2024, 3, last_day, tzinfo=UTC) + timedelta(days=1)
    period = month(2024, 3, until=until)
    counted = [
        change
        for place, change in enumerate(changes)
        if not any(later.at <= change.at for later in changes[place + 1 :]) and change.at < until
    ]
    spans: dict[int, int] = {}
    day = date(2024, 3, 1)
    while day < until.date():
        there = [place for place, change in enumerate(counted) if change.at.date() <= day]
        if there:
            spans[there[-1]] = spans.get(there[-1], 0) + 1
        day += timedelta(days=1)
    six = Decimal("0.000001")
    units = sum(
        (counted[place].units * days / 31).quantize(six, ROUND_HALF_UP) for place, days in spans.items()
    )
    fee = fee_in_arrears(price("1", in_advance=False), changes, period, subscription_id="s")
    assert fee.precise_amount_cents == units * 100
    assert fee.units == (counted[-1].units if counted else 0)
