"""Fees of events that are paid in advance, against a slow second telling of the rule (semantics-metering.md 5.12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.aggregations import Aggregation
from permille.core.metering.custom_aggregation import read_aggregator
from permille.core.metering.usage import AdvanceEvent, Partial
from permille.core.money import exact
from permille.core.period import Period
from permille.core.rating.advance import (
    carried_over_by_place,
    event_fees,
    fee_of_nothing,
    instant_fee,
    units_alone,
)
from permille.core.rating.charge import compile_charge
from permille.core.rating.fee import Fee
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.level import (
    NOTHING_CARRIED_OVER,
    CarriedOver,
    Level,
    LevelState,
    paid_level_at,
    paid_level_of_sum,
    paid_level_of_uniques,
    prorated_units,
)
from permille.core.rating.models import ChargeModel
from permille.core.rating.proration import Proration
from permille.core.rating.rate import rate
from tests.core.given import in_period

APRIL = Period(datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC))
BY = Proration("UTC", 30)
ZERO = Decimal(0)
TIERS = [
    {"from_value": 0, "to_value": 5, "per_unit_amount": "3", "flat_amount": "10"},
    {"from_value": 6, "to_value": None, "per_unit_amount": "1", "flat_amount": "4"},
]
RATES = [
    {"from_value": 0, "to_value": 5, "rate": "7", "flat_amount": "1"},
    {"from_value": 6, "to_value": None, "rate": "3", "flat_amount": "2"},
]
MODELS: list[tuple[ChargeModel, dict[str, Any]]] = [
    (ChargeModel.STANDARD, {"amount": "0.37"}),
    (ChargeModel.GRADUATED, {"graduated_ranges": TIERS}),
    (ChargeModel.GRADUATED_PERCENTAGE, {"graduated_percentage_ranges": RATES}),
    (ChargeModel.PACKAGE, {"amount": "5", "package_size": 3, "free_units": 2}),
]


def compiled(model: ChargeModel, properties: dict[str, Any], **more: Any) -> Any:
    given: dict[str, Any] = {
        "charge_id": "charge",
        "model": model,
        "properties": properties,
        "filters": [],
        "aggregation": aggregations.SUM,
        "currency": "USD",
        "pay_in_advance": True,
    }
    return compile_charge(**(given | more))


def event(
    seq: int, *, value: Any = None, text: str | None = None, is_add: bool | None = True, **more: Any
) -> AdvanceEvent:
    fields: dict[str, Any] = {"at": APRIL.from_ + timedelta(hours=seq), "dimensions": {}} | more
    number = None if value is None else Decimal(value)
    return AdvanceEvent(seq=seq, value=number, text=text, is_add=is_add, **fields)


def billed(
    charge: Any, events: list[AdvanceEvent], seqs: Any = None, carried_over: Any = None
) -> list[tuple[int, Fee]]:
    fees, _ = event_fees(
        charge,
        events,
        billed={each.seq for each in events} if seqs is None else seqs,
        carried_over=carried_over or {},
        subscription_id="sub",
        period=APRIL,
        proration=BY,
    )
    return fees


def current(charge: Any, partial: Partial) -> Fee:
    """The fee of the running period that current usage shows."""
    (fee,) = rate(charge, [({}, partial)], subscription_id="sub", rated=in_period(APRIL, by=BY))
    return fee


def summed(events: list[AdvanceEvent], carried_over: Decimal = ZERO) -> Partial:
    values = tuple((each.at, each.seq, each.value) for each in events if each.value is not None)
    total = sum((value for _, _, value in values), carried_over)
    count = len(values) + bool(carried_over)
    return Partial(events_count=count, values_count=count, sum=total, values=values)


amounts = st.lists(st.decimals(-9, 9, places=1, allow_nan=False), max_size=12)


@pytest.mark.parametrize(("model", "properties"), MODELS)
@given(values=amounts, base=st.integers(0, 8))
def test_the_fees_of_a_sum_add_up_to_the_price_of_its_highest_level(
    model: ChargeModel, properties: dict[str, Any], values: list[Decimal], base: int
) -> None:
    charge = compiled(model, properties)
    events = [event(seq, value=value) for seq, value in enumerate(values, 1)]
    fees = billed(charge, events, carried_over={(0, ()): CarriedOver(units=Decimal(base))})
    assert [seq for seq, _ in fees] == [each.seq for each in events]
    assert all(fee.amount_cents >= 0 and fee.units >= 0 and fee.events_count == 1 for _, fee in fees)
    assert all(fee.pay_in_advance for _, fee in fees)
    level = highest = ZERO
    for value in values:
        level += value
        highest = max(level, highest)
    plain = compiled(model, properties, pay_in_advance=False)
    paid = current(plain, summed([event(1, value=base + highest)])).precise_amount_cents
    before = current(plain, summed([event(1, value=base)])).precise_amount_cents if base else ZERO
    with exact():
        owed = sum((fee.precise_amount_cents for _, fee in fees), ZERO)
        if highest or base:
            assert owed == paid - before
        else:
            assert owed in {ZERO, paid}
    shown = current(charge, summed(events, carried_over=Decimal(base)))
    assert shown.precise_amount_cents == paid
    assert shown.units == max(base + sum(values, ZERO), ZERO)


operations = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([True, True, False])), max_size=14)


@given(script=operations, there=st.sets(st.sampled_from("abx")))
def test_the_fees_of_unique_values_are_for_the_most_that_were_ever_there(
    script: list[tuple[str, bool]], there: set[str]
) -> None:
    unique = {"aggregation": aggregations.UNIQUE_COUNT}
    charge = compiled(ChargeModel.STANDARD, {"amount": "12"}, **unique)
    events = [event(seq, text=text, is_add=is_add) for seq, (text, is_add) in enumerate(script, 1)]
    carried_over: dict[Any, CarriedOver] = {
        (0, ()): CarriedOver(units=Decimal(len(there)), values=frozenset(there))
    }
    present, most, expected = set(there), len(there), []
    for text, is_add in script:
        present = present | {text} if is_add else present - {text}
        expected.append(max(len(present) - most, 0) * 1200)
        most = max(most, len(present))
    assert [fee.amount_cents for _, fee in billed(charge, events, carried_over=carried_over)] == expected
    long_ago = APRIL.from_ - timedelta(days=9)
    told: list[Any] = [(long_ago, -1, text, True) for text in sorted(there)]
    told += [(each.at, each.seq, each.text, bool(each.is_add)) for each in events]
    uniques = {text: (at, seq, is_add) for at, seq, text, is_add in told}
    if not told:
        return
    shown = current(charge, Partial(events_count=len(told), uniques=uniques, operations=tuple(told)))
    assert shown.amount_cents == most * 1200
    assert shown.units == len(present)


@given(values=amounts, cut=st.integers(0, 12))
def test_batches_change_nothing(values: list[Decimal], cut: int) -> None:
    charge = compiled(ChargeModel.GRADUATED, {"graduated_ranges": TIERS})
    events = [event(seq, value=value) for seq, value in enumerate(values)]
    first = billed(charge, events[:cut])
    second = billed(charge, events, seqs=range(cut, len(events)))
    assert first + second == billed(charge, events)


@given(values=st.lists(st.decimals(-9, 9, places=1, allow_nan=False), max_size=9))
def test_prorated_units_are_paid_for_the_days_that_are_left(values: list[Decimal]) -> None:
    charge = compiled(ChargeModel.STANDARD, {"amount": "3"}, prorated=True)
    events = [event(n, value=value, at=APRIL.from_ + timedelta(days=3 * n)) for n, value in enumerate(values)]
    fees = [fee for _, fee in billed(charge, events)]
    level = highest = total = ZERO
    for n, (value, fee) in enumerate(zip(values, fees, strict=True)):
        level += value
        gained = max(level - highest, ZERO)
        highest += gained
        units = (gained * (30 - 3 * n) / 30).quantize(Decimal("0.00001"), ROUND_CEILING)
        assert fee.precise_amount_cents == units * 300
        total += units
    if values:
        assert current(charge, summed(events)).precise_amount_cents == total * 300


@pytest.mark.parametrize(
    ("days_in_period", "days", "units", "expected"),
    [(28, 3, "5.25", "0.5625"), (29, 1, "14.5", "0.5"), (30, 5, "2.25", "0.375"), (31, 2, "147.25", "9.5")],
)
def test_prorated_units_that_come_out_even_are_not_rounded_up(
    days_in_period: int, days: int, units: str, expected: str
) -> None:
    period = Period(APRIL.from_, APRIL.from_ + timedelta(days=days_in_period))
    at = period.to - timedelta(days=days)
    found = prorated_units(Decimal(units), at, period, Proration("UTC", days_in_period))
    assert found == Decimal(expected)


FREE = [
    ({"rate": "10", "free_units_per_events": 2, "fixed_amount": "1"}, [30, 20, 5, 4], [0, 0, 150, 140]),
    ({"rate": "10", "free_units_per_total_aggregation": "50"}, [30, 20, 10], [0, 0, 100]),
    (
        {"rate": "10", "per_transaction_min_amount": "2", "per_transaction_max_amount": "3"},
        [10, 25, 90],
        [200, 250, 300],
    ),
    (
        {"rate": "10", "free_units_per_events": 1, "per_transaction_min_amount": "2"},
        [10, 10, 50],
        [0, 200, 500],
    ),
]


@pytest.mark.parametrize(("properties", "values", "cents"), FREE)
def test_percentages_of_events(properties: dict[str, Any], values: list[int], cents: list[int]) -> None:
    charge = compiled(ChargeModel.PERCENTAGE, properties)
    events = [event(seq, value=value) for seq, value in enumerate(values)]
    assert [fee.amount_cents for _, fee in billed(charge, events)] == cents


@given(
    values=st.lists(st.decimals(0, 60, places=1, allow_nan=False), max_size=9),
    fixed=st.sampled_from([None, "1"]),
    free=st.tuples(st.none() | st.integers(1, 3), st.none() | st.integers(1, 90).map(str)),
    bounds=st.sampled_from([(None, None), ("2", None), (None, "3"), ("2", "3")]),
)
def test_the_fees_of_percentages_add_up_to_the_price_of_them_all(
    values: list[Decimal], fixed: str | None, free: tuple[int | None, str | None], bounds: tuple[Any, Any]
) -> None:
    """With any allowances and bounds: as if the same events were paid in arrears."""
    properties = {
        "rate": "10",
        "fixed_amount": fixed,
        "free_units_per_events": free[0],
        "free_units_per_total_aggregation": free[1],
        "per_transaction_min_amount": bounds[0],
        "per_transaction_max_amount": bounds[1],
    }
    events = [event(seq, value=value) for seq, value in enumerate(values, 1)]
    fees = [fee for _, fee in billed(compiled(ChargeModel.PERCENTAGE, properties), events)]
    if not events:
        return
    arrears = current(compiled(ChargeModel.PERCENTAGE, properties, pay_in_advance=False), summed(events))
    with exact():
        assert sum((fee.precise_amount_cents for fee in fees), ZERO) == arrears.precise_amount_cents
        for name in ("per_unit_total_amount", "fixed_fee_total_amount", "min_max_adjustment_total_amount"):
            told = sum((Decimal(fee.amount_details[name]) for fee in fees), ZERO)
            assert told == Decimal(arrears.amount_details[name]), name
        for name in ("free_events", "paid_events"):
            if sum(values, ZERO):
                count = sum(fee.amount_details[name] for fee in fees)
                assert count == arrears.amount_details[name], name


@given(script=operations, there=st.sets(st.sampled_from("abx")), days=st.data())
def test_prorated_unique_values_are_paid_for_the_days_that_are_left(
    script: list[tuple[str, bool]], there: set[str], days: st.DataObject
) -> None:
    """What stood is paid whole, at the renewal; what rises above all that was, from its day on."""
    unique = {"aggregation": aggregations.UNIQUE_COUNT}
    charge = compiled(ChargeModel.STANDARD, {"amount": "3"}, prorated=True, **unique)
    drawn = days.draw(st.lists(st.integers(0, 29), min_size=len(script), max_size=len(script)))
    events = [
        event(seq, text=text, is_add=is_add, at=APRIL.from_ + timedelta(days=day, hours=seq))
        for seq, ((text, is_add), day) in enumerate(zip(script, drawn, strict=True), 1)
    ]
    fees = [
        fee.precise_amount_cents
        for _, fee in billed(
            charge,
            events,
            carried_over={(0, ()): CarriedOver(units=Decimal(len(there)), values=frozenset(there))},
        )
    ]
    present, most, expected = set(there), len(there), []
    for (text, is_add), day in zip(script, drawn, strict=True):
        present = present | {text} if is_add else present - {text}
        gained = len(present) - most
        most = max(most, len(present))
        units = Fraction(30 - day, 30) if gained > 0 else Fraction(0)
        expected.append(Decimal(ceil(units * 10**5)) / 10**5 * 300)
    assert fees == expected
    told: list[Any] = [(APRIL.from_ - timedelta(days=9), -1, text, True) for text in sorted(there)]
    told += [(each.at, each.seq, each.text, bool(each.is_add)) for each in events]
    if not told:
        return
    uniques: dict[str | None, Any] = {text: (APRIL.from_, 0, text in present) for _, _, text, _ in told}
    shown = current(charge, Partial(events_count=len(told), uniques=uniques, operations=tuple(told)))
    assert shown.precise_amount_cents == 300 * len(there) + sum(expected)
    assert shown.units == len(present)
    if present:
        by_unit = Fraction(shown.precise_amount_cents) / 100 / len(present)
        assert abs(Fraction(shown.precise_unit_amount) - by_unit) < Fraction(1, 10**14)


# Rules, and a second telling of them: (units, amount) before and a number -> units after, and what is added.
RULES: list[tuple[str, str, Any]] = [
    (
        "state.total_units + event.properties.n",
        "event.properties.n * custom_properties.price",
        lambda units, _, n: (units + n, n * Decimal("0.7")),
    ),
    ("event.properties.n", "state.total_units + 1", lambda units, _, n: (n, units + 1)),
    (
        "greatest(state.total_units, event.properties.n)",
        "if(event.properties.n < 2, 0 - state.amount, 3)",
        lambda units, amount, n: (max(units, n), -amount if n < 2 else Decimal(3)),
    ),
    (
        "state.total_units - event.properties.n",
        "event.properties.n / 8 - state.amount / 4",
        lambda units, amount, n: (units - n, n / 8 - amount / 4),
    ),
]
PRICE = {"custom_properties": {"price": "0.7"}}
texts = st.sampled_from([None, "many"]) | st.decimals(-9, 9, places=1, allow_nan=False).map(str)


def custom_events(
    script: list[str | None], hours: list[int], *, since: datetime, first: int
) -> list[AdvanceEvent]:
    return [
        event(seq, at=since + timedelta(hours=hour), texts=(text,))
        for seq, (text, hour) in enumerate(zip(script, hours, strict=True), first)
    ]


def partial_of(sent: list[AdvanceEvent]) -> Partial:
    told = tuple((each.at, each.seq, each.texts) for each in sent)
    return Partial(events_count=len(told), values_count=0, custom_events=(told,))


def told_over(
    sent: list[AdvanceEvent], step: Any, units: Decimal, amount: Decimal
) -> list[tuple[Decimal, Decimal]]:
    """The states after those events that count."""
    states = []
    for each in sent:
        if each.texts[0] not in (None, "many"):
            units, added = step(units, amount, Decimal(each.texts[0]))
            amount += added
            states.append((units, amount))
    return states


@pytest.mark.parametrize(("total_units", "amount", "step"), RULES)
@pytest.mark.parametrize(("model", "properties"), [(ChargeModel.CUSTOM, {}), *MODELS])
@given(
    script=st.lists(texts, max_size=9),
    stood=st.lists(texts, max_size=4),
    cut=st.integers(0, 9),
    hours=st.randoms(use_true_random=False),
)
def test_the_fees_of_a_custom_aggregation_add_up_to_the_price_of_its_highest_level(
    total_units: str,
    amount: str,
    step: Any,
    model: ChargeModel,
    properties: dict[str, Any],
    *,
    script: list[str | None],
    stood: list[str | None],
    cut: int,
    hours: Any,
) -> None:
    """What stood is taken in the order of time, what comes in the order of arrival."""
    aggregator = read_aggregator("calls", total_units, amount)
    kind = {"aggregation": aggregations.CUSTOM, "aggregator": aggregator}
    charge = compiled(model, {**properties, **PRICE}, **kind)
    moments = [hours.sample(range(1, 99), len(each)) for each in (stood, script)]
    long_ago = APRIL.from_ - timedelta(hours=100)
    before = custom_events(stood, moments[0], since=long_ago, first=100)
    events = custom_events([*script], moments[1], since=APRIL.from_, first=1)
    with exact():
        states = told_over(sorted(before, key=lambda each: each.at), step, ZERO, ZERO)
        base = states[-1] if states else (ZERO, ZERO)
        after = told_over(events, step, *base)
        highest = [max(each) for each in zip(base, *after, strict=True)]
    carried_over = carried_over_by_place(charge, [({}, partial_of(before))]) if before else {}
    terms: dict[str, Any] = {
        "carried_over": carried_over,
        "subscription_id": "sub",
        "period": APRIL,
        "proration": BY,
    }
    first, reached = event_fees(charge, events[:cut], billed=range(1, 10), **terms)
    second, _ = event_fees(charge, events[cut:], billed=range(1, 10), reached=reached, **terms)
    fees = first + second
    assert [seq for seq, _ in fees] == [each.seq for each in events if each.texts[0] not in (None, "many")]
    assert all(fee.amount_cents >= 0 and fee.units >= 0 and fee.events_count == 1 for _, fee in fees)
    with exact():
        owed = sum((fee.precise_amount_cents for _, fee in fees), ZERO)
        if model is ChargeModel.CUSTOM:
            paid, paid_before = (max(each, ZERO) * 100 for each in (highest[1], base[1]))
            assert abs(owed - paid + paid_before) < Decimal("1e-12")
        else:
            plain = compiled(model, properties, pay_in_advance=False)
            paid, paid_before = (
                current(plain, summed([event(1, value=each)])).precise_amount_cents
                for each in (highest[0], base[0])
            )
            if base[0] < 0:  # as of a sum: every unit that it rises by is paid
                return
            assert owed == paid - (paid_before if base[0] else ZERO) or not (highest[0] or base[0])
    if not after and not states:
        return
    shown = current(charge, partial_of([*before, *events]))
    is_nothing = model is ChargeModel.CUSTOM and highest[1] < 0
    assert shown.units == (ZERO if is_nothing else max((after or states)[-1][0], ZERO))
    assert shown.events_count == len(after) + len(states)
    if model is ChargeModel.CUSTOM or highest[0] or base[0]:
        assert abs(shown.precise_amount_cents - paid) < Decimal("1e-12")


@given(
    numbers=st.lists(st.decimals(0, 60, places=1, allow_nan=False), min_size=1, max_size=9),
    free=st.tuples(st.none() | st.integers(1, 3), st.none() | st.integers(1, 90).map(str)),
    bounds=st.sampled_from([(None, None), ("2", None), (None, "3"), ("2", "3")]),
)
def test_percentages_of_a_custom_aggregation_are_those_of_arrears(
    numbers: list[Decimal], free: tuple[int | None, str | None], bounds: tuple[Any, Any]
) -> None:
    properties = {
        "rate": "10",
        "fixed_amount": "1",
        "free_units_per_events": free[0],
        "free_units_per_total_aggregation": free[1],
        "per_transaction_min_amount": bounds[0],
        "per_transaction_max_amount": bounds[1],
    }
    aggregator = read_aggregator("calls", "state.total_units + event.properties.n", "0")
    kind = {"aggregation": aggregations.CUSTOM, "aggregator": aggregator}
    charge = compiled(ChargeModel.PERCENTAGE, properties, **kind)
    arrears = compiled(ChargeModel.PERCENTAGE, properties, pay_in_advance=False, **kind)
    script = [str(number) for number in numbers]
    events = custom_events([*script], list(range(len(script))), since=APRIL.from_, first=1)
    paid = current(arrears, partial_of(events)).precise_amount_cents
    with exact():
        assert sum((fee.precise_amount_cents for _, fee in billed(charge, events)), ZERO) == paid
    assert current(charge, partial_of(events)).precise_amount_cents == paid


def test_an_event_of_a_custom_aggregation_alone() -> None:
    aggregator = read_aggregator(
        "calls", "state.total_units + event.properties.n * custom_properties.price", "1"
    )
    charge = compiled(
        ChargeModel.STANDARD,
        {"amount": "1", **PRICE},
        aggregation=aggregations.CUSTOM,
        aggregator=aggregator,
    )
    assert units_alone(charge, event(1, texts=("3",))) == Decimal("2.1")
    assert units_alone(charge, event(1, texts=("many",))) == 0


def test_the_details_are_those_of_the_event_alone() -> None:
    charge = compiled(ChargeModel.PERCENTAGE, {"rate": "10", "fixed_amount": "1", "free_units_per_events": 1})
    events = [event(seq, value=20) for seq in range(3)]
    details = billed(charge, events)[2][1].amount_details
    assert (details["units"], details["paid_units"], details["free_units"]) == ("20.0", "20.0", "0.0")
    assert (details["paid_events"], details["fixed_fee_total_amount"]) == (1, "1.0")
    assert (details["rate"], details["per_unit_total_amount"]) == ("10.0", "2.0")
    standard = compiled(ChargeModel.STANDARD, {"amount": "1"})
    assert billed(standard, events)[0][1].amount_details == {}


def test_the_tiers_of_an_event_are_those_it_enters() -> None:
    """4 units, 3 more into the second tier, 1 gone, and 2 of which 1 is above all that was."""
    charge = compiled(ChargeModel.GRADUATED_PERCENTAGE, {"graduated_percentage_ranges": RATES})
    events = [event(seq, value=value) for seq, value in enumerate((4, 3, -1, 2))]
    fees = [fee for _, fee in billed(charge, events)]
    assert [(fee.units, fee.amount_cents, fee.unit_amount_cents) for fee in fees] == [
        (4, 128, 32),
        (3, 213, 71),
        (0, 0, 0),
        (1, 3, 3),
    ]
    terms: list[dict[str, Any]] = [
        {"from_value": 0, "to_value": 5, "flat_unit_amount": "1.0", "rate": "7.0"},
        {"from_value": 6, "to_value": None, "flat_unit_amount": "2.0", "rate": "3.0"},
    ]
    amounts = ("units", "per_unit_total_amount", "total_with_flat_amount")

    def lines(*rows: tuple[str, str, str]) -> dict[str, Any]:
        told = [term | dict(zip(amounts, row, strict=True)) for term, row in zip(terms, rows, strict=False)]
        return {"graduated_percentage_ranges": told}

    assert [fee.amount_details for fee in fees] == [
        lines(("4.0", "0.28", "1.28")),
        lines(("1.0", "0.07", "0.07"), ("2.0", "0.06", "2.06")),
        {},
        lines(("0.0", "0.0", "0.0"), ("1.0", "0.03", "0.03")),
    ]


def alone(charge: Any, units: str, **more: Any) -> Fee:
    """The instant fee of one event."""
    return instant_fee(charge, event(1, **more), units=Decimal(units), subscription_id="sub", period=APRIL)


BOUNDED = {
    "rate": "10",
    "fixed_amount": "1",
    "free_units_per_events": 5,
    "per_transaction_min_amount": "2",
    "per_transaction_max_amount": "3",
}


@pytest.mark.parametrize(
    ("model", "properties", "units", "cents", "unit_amount"),
    [
        # semantics-metering.md 1.10
        (ChargeModel.STANDARD, {"amount": "2.505"}, "3", 752, "2.505"),
        (ChargeModel.STANDARD, {"amount": "2.505"}, "0", 0, "0"),
        (ChargeModel.STANDARD, {"amount": "2.505"}, "-3", 0, "0"),
        (ChargeModel.PERCENTAGE, BOUNDED, "15", 250, "0.166666666666667"),
        (ChargeModel.PERCENTAGE, BOUNDED, "1", 200, "2"),
        (ChargeModel.PERCENTAGE, BOUNDED, "90", 300, "0.033333333333333"),
        (ChargeModel.PERCENTAGE, BOUNDED, "0", 200, "0"),
        (ChargeModel.PERCENTAGE, BOUNDED, "-1", 0, "0"),
    ],
)
def test_an_event_priced_alone(
    model: ChargeModel, properties: dict[str, Any], units: str, cents: int, unit_amount: str
) -> None:
    fee = alone(compiled(model, properties), units)
    assert (fee.amount_cents, fee.precise_unit_amount) == (cents, Decimal(unit_amount))
    assert (fee.units, fee.total_aggregated_units, fee.events_count) == (Decimal(units), Decimal(units), 1)
    assert (fee.pay_in_advance, fee.grouped_by, fee.amount_details) == (True, {}, {})


def test_an_event_priced_alone_is_rounded_as_the_metric_says_and_has_its_filters_price() -> None:
    eu = ChargeFilter("eu", {"region": ("eu",)}, "Europe", {"amount": "2"})
    charge = compiled(ChargeModel.STANDARD, {"amount": "1"}, filters=[eu], rounding_function="ceil")
    fee = alone(charge, "2.1", dimensions={"region": "eu"})
    assert (fee.charge_filter_id, fee.units, fee.amount_cents) == ("eu", 3, 600)
    other = alone(charge, "2.1", dimensions={"region": "us"})
    assert (other.charge_filter_id, other.units, other.amount_cents) == (None, 3, 300)


def test_an_event_that_would_make_no_fee_has_its_place_and_costs_nothing() -> None:
    eu = ChargeFilter("eu", {"region": ("eu",)}, "Europe", {"graduated_ranges": TIERS})
    own = {"graduated_ranges": TIERS, "pricing_group_keys": ["user"]}
    charge = compiled(ChargeModel.GRADUATED, own, filters=[eu])
    for dimensions, filter_id, group in (
        ({"region": "eu"}, "eu", {}),
        ({"region": "us", "user": "ann"}, None, {"user": "ann"}),
    ):
        fee = fee_of_nothing(
            charge, event(1, dimensions=dimensions), subscription_id="sub", period=APRIL, proration=BY
        )
        assert (fee.charge_filter_id, fee.grouped_by) == (filter_id, group)
        assert (fee.units, fee.amount_cents, fee.unit_amount_cents, fee.events_count) == (0, 0, 0, 1)


def test_an_event_without_its_value_makes_no_fee() -> None:
    sums = compiled(ChargeModel.STANDARD, {"amount": "1"})
    assert billed(sums, [event(1, value=None)]) == []
    uniques = compiled(ChargeModel.STANDARD, {"amount": "1"}, aggregation=aggregations.UNIQUE_COUNT)
    nothing = [event(1, text=None), event(2, text=""), event(3, text="a", is_add=None)]
    assert billed(uniques, nothing) == []
    counts = compiled(ChargeModel.STANDARD, {"amount": "1"}, aggregation=aggregations.COUNT)
    assert [fee.amount_cents for _, fee in billed(counts, [event(1)])] == [100]


def test_the_dynamic_price_is_the_events_own() -> None:
    charge = compiled(ChargeModel.DYNAMIC, {})
    events = [
        event(1, value=5, precise_amount_cents=Decimal("1234.5")),
        event(2, value=1, precise_amount_cents=Decimal("2.1")),
    ]
    fees = [fee for _, fee in billed(charge, events)]
    assert [(fee.amount_cents, fee.precise_amount_cents) for fee in fees] == [
        (1235, Decimal("1234.5")),
        (2, Decimal("2.1")),
    ]


def test_every_filter_and_group_has_a_level_of_its_own() -> None:
    eu = ChargeFilter("eu", {"region": ("eu",)}, "Europe", {"amount": "2"})
    charge = compiled(ChargeModel.STANDARD, {"amount": "1", "pricing_group_keys": ["user"]}, filters=[eu])
    events = [
        event(1, value=4, dimensions={"region": "eu"}),
        event(2, value=-4, dimensions={"region": "eu"}),
        event(3, value=4, dimensions={"region": "us", "user": "ann"}),
        event(4, value=4, dimensions={"region": "us", "user": "bob"}),
        event(5, value=4, dimensions={"region": "eu"}),
    ]
    fees = [fee for _, fee in billed(charge, events)]
    assert [(fee.charge_filter_id, dict(fee.grouped_by), fee.amount_cents) for fee in fees] == [
        ("eu", {}, 800),
        ("eu", {}, 0),
        (None, {"user": "ann"}, 400),
        (None, {"user": "bob"}, 400),
        ("eu", {}, 0),
    ]


def test_what_is_carried_over_is_given_by_place() -> None:
    eu = ChargeFilter("eu", {"region": ("eu",)}, None, {"amount": "2"})
    charge = compiled(ChargeModel.STANDARD, {"amount": "1"}, filters=[eu])
    series = [
        ({"region": "eu"}, Partial(events_count=1, values_count=1, sum=Decimal(3))),
        ({"region": "eu", "x": "y"}, Partial(events_count=1, values_count=1, sum=Decimal(4))),
    ]
    assert carried_over_by_place(charge, series) == {(0, ()): CarriedOver(units=Decimal(7))}


def test_the_values_that_are_carried_over_are_those_added_last() -> None:
    unique = {"aggregation": aggregations.UNIQUE_COUNT}
    charge = compiled(ChargeModel.STANDARD, {"amount": "1", "pricing_group_keys": ["team"]}, **unique)
    early, late = APRIL.from_ - timedelta(days=9), APRIL.from_ - timedelta(days=2)
    series = [
        (
            {"team": "a", "x": "1"},
            Partial(events_count=3, uniques={"ann": (early, 1, True), "bob": (early, 2, True)}),
        ),
        ({"team": "a", "x": "2"}, Partial(events_count=1, uniques={"ann": (late, 3, False)})),
        ({"team": "b"}, Partial(events_count=1, uniques={None: (early, 4, True)})),
    ]
    assert carried_over_by_place(charge, series) == {
        (0, (("team", "a"),)): CarriedOver(units=Decimal(1), values=frozenset({"bob"})),
        (0, (("team", "b"),)): CarriedOver(),
    }, "without a value an event makes no fee, so it is not there"


def test_a_maximum_is_never_paid_in_advance() -> None:
    charge = compiled(ChargeModel.STANDARD, {"amount": "1"}, aggregation=aggregations.MAX)
    with pytest.raises(ValueError, match="not paid in advance"):
        billed(charge, [event(1, value=1)])


MARCH_DAYS = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))


def test_what_was_carried_over_before_is_held_by_its_days_and_the_rest_by_the_days_left() -> None:
    """Of a period cut to its last 16 days: 4 stood, 2 more came at its start and 3 on the 31st, 1 went."""
    cut = Period(datetime(2024, 3, 16, tzinfo=UTC), MARCH_DAYS.to)
    by = Proration("UTC", 31)
    values = [
        (cut.from_, 1, Decimal(2)),
        (datetime(2024, 3, 31, tzinfo=UTC), 2, Decimal(3)),
        (datetime(2024, 3, 31, 1, tzinfo=UTC), 3, Decimal(-1)),
        (datetime(2024, 3, 2, tzinfo=UTC), 0, Decimal(4)),
    ]
    held = paid_level_of_sum(values, Decimal(8), period=cut, proration=by)
    assert held.units == 9
    # 4 * 16/31, 2 * 16/31 and 3 * 1/31, each rounded up to five decimals
    assert held.prorated == Decimal("2.06452") + Decimal("1.03226") + Decimal("0.09678")


def test_held_values_of_before_the_period_count_by_time_and_those_in_it_by_arrival() -> None:
    """`a` was removed before the period, though told of late; `b` comes at its very start and goes, out of order."""
    before = datetime(2024, 2, 10, tzinfo=UTC)
    operations = [
        (before, 9, "a", True),
        (datetime(2024, 2, 11, tzinfo=UTC), 3, "a", False),
        (MARCH_DAYS.from_, 5, "b", True),
        (datetime(2024, 3, 9, tzinfo=UTC), 7, "c", True),
        (datetime(2024, 3, 2, tzinfo=UTC), 8, "b", False),
    ]
    held = paid_level_of_uniques(operations, Decimal(1), period=MARCH_DAYS, proration=None)
    assert held.units == 2  # b and c stood together by arrival, though b went before c came
    late = [
        (datetime(2024, 3, 9, tzinfo=UTC), 1, "c", True),
        (datetime(2024, 3, 2, tzinfo=UTC), 2, "c", False),
    ]
    assert paid_level_of_uniques(late, Decimal(0), period=MARCH_DAYS, proration=None).units == 1
    in_its_place = [
        (before, 1, "a", True),
        (datetime(2024, 3, 5, tzinfo=UTC), 2, "a", False),
        (MARCH_DAYS.from_, 3, "b", True),  # told when a was gone: there was never more than one
    ]
    assert paid_level_of_uniques(in_its_place, Decimal(1), period=MARCH_DAYS, proration=None).units == 1


def level_of(kind: Aggregation, carried_over: CarriedOver = NOTHING_CARRIED_OVER) -> Level:
    return Level(aggregation=kind, carried_over=carried_over, remembers=lambda _count, _total: True)


def told(seq: int, *, value: int | None = None, text: str | None = None, is_add: bool | None = None) -> Any:
    return AdvanceEvent(
        seq=seq,
        at=MARCH_DAYS.from_,
        dimensions={},
        value=None if value is None else Decimal(value),
        text=text,
        is_add=is_add,
    )


def test_an_event_below_the_highest_level_is_free_and_shows_what_it_would_have_been() -> None:
    level = level_of(aggregations.SUM)
    taken = [level.take(told(n, value=value)) for n, value in enumerate((10, -4, 0, 3, 5))]
    assert all(taken)
    assert [(each.gained, each.is_free, each.units) for each in taken if each] == [
        (10, False, 10),
        (0, True, 0),
        (0, False, 0),
        (0, True, 3),
        (4, False, 4),
    ]
    assert level.events_count == 5


def test_unique_values_that_are_there_already_are_no_events_and_free() -> None:
    level = level_of(aggregations.UNIQUE_COUNT, CarriedOver(units=Decimal(1), values=frozenset({"old"})))
    script = [("old", True), ("a", True), ("a", False), ("a", True), ("b", True)]
    taken = [level.take(told(n, text=text, is_add=is_add)) for n, (text, is_add) in enumerate(script)]
    assert [(each.gained, each.is_free) for each in taken if each] == [
        (0, True),
        (1, False),
        (0, True),
        (0, True),
        (1, False),
    ]
    assert level.events_count == 2
    assert level.first_values == [1, 1, 1, 1, 1]


percentages = {
    "rate": "5",
    "fixed_amount": "1",
    "free_units_per_events": 2,
    "free_units_per_total_aggregation": "9",
}
bounded = {**percentages, "per_transaction_min_amount": "0.4", "per_transaction_max_amount": "1.2"}
groups = {"amount": "0.37", "pricing_group_keys": ["region"]}


@given(
    script=st.lists(
        st.tuples(st.integers(-6, 9), st.sampled_from("abc"), st.sampled_from([True, True, False])),
        max_size=12,
    ),
    cut=st.integers(0, 12),
    there=st.sets(st.sampled_from("abx")),
    terms=st.sampled_from(
        [
            *MODELS,
            (ChargeModel.PERCENTAGE, percentages),
            (ChargeModel.PERCENTAGE, bounded),
            (ChargeModel.STANDARD, groups),
        ]
    ),
    kind=st.sampled_from([aggregations.SUM, aggregations.UNIQUE_COUNT, aggregations.COUNT]),
    prorated=st.booleans(),
)
def test_fees_go_on_from_what_levels_had_reached(  # noqa: PLR0917
    script: list[tuple[int, str, bool]],
    cut: int,
    there: set[str],
    terms: tuple[ChargeModel, dict[str, Any]],
    kind: Aggregation,
    prorated: bool,
) -> None:
    model, properties = terms
    prorated = prorated and model is ChargeModel.STANDARD and kind is not aggregations.COUNT
    charge = compiled(model, properties, aggregation=kind, prorated=prorated)
    events = [
        event(seq, value=value, text=text, is_add=is_add, dimensions={"region": text})
        for seq, (value, text, is_add) in enumerate(script, 1)
    ]
    stood = CarriedOver(units=Decimal(len(there)), values=frozenset(there))
    terms_of_period: dict[str, Any] = {
        "billed": {each.seq for each in events},
        "carried_over": {(0, ()): stood, (0, (("region", "a"),)): stood},
        "subscription_id": "sub",
        "period": APRIL,
        "proration": BY,
    }
    whole, end = event_fees(charge, events, **terms_of_period)
    first, reached = event_fees(charge, events[:cut], **terms_of_period)
    second, same_end = event_fees(charge, events[cut:], reached=reached, **terms_of_period)
    assert first + second == whole
    assert same_end == end
    assert all(each.events_count <= len(events) for each in end.values())


def test_what_a_prorated_level_is_made_of_is_its_rises_by_their_days() -> None:
    charge = compiled(ChargeModel.STANDARD, {"amount": "1"}, prorated=True)
    events = [
        event(1, value=6, at=datetime(2024, 4, 11, tzinfo=UTC)),
        event(2, value=-2, at=datetime(2024, 4, 12, tzinfo=UTC)),
        event(3, value=5, at=datetime(2024, 4, 28, tzinfo=UTC)),
    ]
    fees, reached = event_fees(
        charge, events, billed=(), carried_over={}, subscription_id="sub", period=APRIL, proration=BY
    )
    assert fees == []
    (level,) = reached.values()
    assert (level.units, level.highest, level.events_count) == (9, 9, 3)
    assert level.prorated == Decimal(4) + Decimal("0.3")  # 6 x 20/30 and 3 x 3/30


@given(values=amounts, base=st.integers(0, 8), prorated=st.booleans())
def test_what_a_sum_holds_is_the_same_from_its_level_as_from_its_events(
    values: list[Decimal], base: int, prorated: bool
) -> None:
    charge = compiled(ChargeModel.STANDARD, {"amount": "3"}, prorated=prorated)
    days = [APRIL.from_ + timedelta(days=2 * n) for n in range(len(values))]
    events = [event(n, value=value, at=at) for n, (value, at) in enumerate(zip(values, days, strict=True))]
    carried_over: dict[Any, CarriedOver] = {(0, ()): CarriedOver(units=Decimal(base))}
    _, reached = event_fees(
        charge,
        events,
        billed=(),
        carried_over=carried_over,
        subscription_id="sub",
        period=APRIL,
        proration=BY,
    )
    told = [(each.at, each.seq, each.value or ZERO) for each in events]
    by = BY if prorated else None
    assert paid_level_at(
        carried_over[0, ()], reached.get((0, ()), LevelState()), period=APRIL, proration=by
    ) == paid_level_of_sum(told, sum(values, Decimal(base)), period=APRIL, proration=by)


@given(script=operations, there=st.sets(st.sampled_from("abx")), prorated=st.booleans())
def test_what_unique_values_hold_is_the_same_from_their_level_as_from_their_events(
    script: list[tuple[str, bool]], there: set[str], prorated: bool
) -> None:
    charge = compiled(
        ChargeModel.STANDARD,
        {"amount": "3"},
        prorated=prorated,
        aggregation=aggregations.UNIQUE_COUNT,
    )
    events = [event(seq, text=text, is_add=is_add) for seq, (text, is_add) in enumerate(script, 1)]
    stood = CarriedOver(units=Decimal(len(there)), values=frozenset(there))
    _, reached = event_fees(
        charge,
        events,
        billed=(),
        carried_over={(0, ()): stood},
        subscription_id="sub",
        period=APRIL,
        proration=BY,
    )
    told: list[Any] = [(APRIL.from_ - timedelta(days=9), -1, text, True) for text in sorted(there)]
    told += [(each.at, each.seq, each.text or "", bool(each.is_add)) for each in events]
    now = {text: is_add for _, _, text, is_add in told}
    by = BY if prorated else None
    assert paid_level_at(
        stood, reached.get((0, ()), LevelState()), period=APRIL, proration=by
    ) == paid_level_of_uniques(told, Decimal(sum(now.values())), period=APRIL, proration=by)
