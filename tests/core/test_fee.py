"""From the sums of a metric to the fees of a charge: buckets, groups, rounding; and the plan's own fee."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Charge, PlanFilter
from permille.core.fee_kind import FeeKind
from permille.core.metering import aggregations
from permille.core.metering.aggregations import Aggregation
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.usage import Partial, epoch_seconds
from permille.core.money import minor, round_cents, subunits
from permille.core.period import Period
from permille.core.rating.charge import compile_charge
from permille.core.rating.fee import Fee
from permille.core.rating.filters import ChargeFilter, best_match, group_of
from permille.core.rating.models import ChargeModel, price
from permille.core.rating.rate import rate
from permille.core.rating.subscription_fee import subscription_fee
from tests.core.given import decimals, in_period, merge_all, ts
from tests.core.pricing.table import Ladder, ladders
from tests.core.test_usage import Sent, events, expected

SEPTEMBER = Period(ts(2023, 9, 1), ts(2023, 10, 1))
SUM, COUNT = aggregations.SUM, aggregations.COUNT


def summed(total: Any, events_count: int = 1, **more: Any) -> Partial:
    return Partial(events_count=events_count, values_count=events_count, sum=Decimal(total), **more)


def fees(
    series: list[tuple[dict[str, str | None], Partial]],
    *,
    model: ChargeModel = ChargeModel.STANDARD,
    properties: dict[str, Any],
    filters: tuple[ChargeFilter, ...] = (),
    aggregation: Aggregation = SUM,
    **more: Any,
) -> list[Fee]:
    charge = compile_charge(
        charge_id="charge",
        model=model,
        properties=properties,
        filters=filters,
        aggregation=aggregation,
        currency="USD",
        invoice_display_name="Calls",
        **more,
    )
    return rate(charge, series, subscription_id="sub", rated=in_period(SEPTEMBER, seconds=30 * 86_400))


def figures(rows: list[Fee]) -> list[tuple[Any, str, int]]:
    return [(fee.charge_filter_id, str(fee.units), fee.amount_cents) for fee in rows]


def package(amount: str) -> dict[str, Any]:
    return {"amount": amount, "package_size": 1000, "free_units": 0}


GPT4 = {
    ("8K", "input"): "0.03",
    ("8K", "output"): "0.06",
    ("32K", "input"): "0.06",
    ("32K", "output"): "0.12",
}
GPT4_FILTERS = tuple(
    ChargeFilter(
        f"{model} {kind}", {"model": (model,), "type": (kind,)}, f"{model} context, {kind}", package(amount)
    )
    for (model, kind), amount in GPT4.items()
)


def test_tokens_by_model_and_type() -> None:
    """Appendix D: packages begun are counted in each bucket, and what matches no filter costs nothing here."""
    used = {("8K", "input"): 1234, ("8K", "output"): 999, ("32K", "input"): 10_000, ("32K", "output"): 1}
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"model": model, "type": kind}, summed(tokens)) for (model, kind), tokens in used.items()
    ]
    series += [({"model": "128k"}, summed(2000)), ({"model": "8K"}, summed(3000))]
    rows = fees(series, model=ChargeModel.PACKAGE, properties=package("0"), filters=GPT4_FILTERS)
    assert figures(rows) == [
        ("8K input", "1234", 6),
        ("8K output", "999", 6),
        ("32K input", "10000", 60),
        ("32K output", "1", 12),
        (None, "5000", 0),
    ]
    assert [fee.invoice_display_name for fee in rows][-2:] == ["32K context, output", "Calls"]
    assert rows[0] == Fee(
        kind=FeeKind.CHARGE,
        subscription_id="sub",
        charge_id="charge",
        charge_filter_id="8K input",
        invoice_display_name="8K context, input",
        units=Decimal(1234),
        events_count=1,
        total_aggregated_units=Decimal(1234),
        amount_cents=6,
        precise_amount_cents=Decimal(6),
        unit_amount_cents=0,
        precise_unit_amount=Decimal("0.000048622366288"),
        amount_details={
            "free_units": "0.0",
            "paid_units": "1234.0",
            "per_package_size": 1000,
            "per_package_unit_amount": "0.03",
        },
        grouped_by={},
        from_=SEPTEMBER.from_,
        to=SEPTEMBER.to,
    )


def test_a_charge_without_usage_has_an_idle_fee_for_each_price() -> None:
    rows = fees([], model=ChargeModel.PACKAGE, properties=package("0"), filters=GPT4_FILTERS)
    assert [fee.charge_filter_id for fee in rows] == [*(f.id for f in GPT4_FILTERS), None]
    assert all(fee.is_idle for fee in rows)


def test_flat_amounts_of_a_first_tier_are_due_in_every_bucket_without_usage() -> None:
    flat = {
        "graduated_ranges": [
            {"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "100"}
        ]
    }
    clouds = tuple(ChargeFilter(name, {"cloud": (name,)}, None, flat) for name in ("a", "b", "c"))
    rows = fees([], model=ChargeModel.GRADUATED, properties=flat, filters=clouds)
    assert sum(fee.amount_cents for fee in rows) == 40_000
    assert not any(fee.is_idle for fee in rows)


def test_usage_that_costs_nothing_is_not_idle() -> None:
    (fee,) = fees([({}, summed(0, 3))], properties={"amount": "10"})
    assert (fee.units, fee.amount_cents, fee.events_count, fee.is_idle) == (0, 0, 3, False)


def test_groups_are_priced_and_rounded_apart_with_none_last() -> None:
    by_region = {"amount": "0.004", "pricing_group_keys": ["region"]}
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"region": "us"}, summed(1)),
        ({"region": None}, summed(2)),
        ({"region": "eu"}, summed(1)),
        ({"region": ""}, summed(3)),
        ({"region": "us", "other": "x"}, summed(1)),
    ]
    rows = fees(series, properties=by_region)
    assert [(fee.grouped_by, fee.units, fee.amount_cents) for fee in rows] == [
        ({"region": "eu"}, 1, 0),
        ({"region": "us"}, 2, 1),
        ({"region": None}, 5, 2),
    ]


def test_a_grouped_bucket_without_usage_has_one_group_of_nones() -> None:
    (fee,) = fees([], properties={"amount": "1", "pricing_group_keys": ["a", "b"]})
    assert fee.grouped_by == {"a": None, "b": None}
    not_a_number = Partial(events_count=1)
    (fee,) = fees(
        [({"a": "x", "b": "y"}, not_a_number)], properties={"amount": "1", "pricing_group_keys": ["a", "b"]}
    )
    assert (fee.grouped_by, fee.events_count) == ({"a": None, "b": None}, 0)


def test_a_filter_is_grouped_by_its_own_keys_only() -> None:
    aws = ChargeFilter("aws", {"cloud": ("aws",)}, None, {"amount": "12", "pricing_group_keys": ["country"]})
    plain = ChargeFilter("gcp", {"cloud": ("gcp",)}, None, {"amount": "1"})
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"cloud": cloud, "country": country}, summed(10))
        for cloud in ("aws", "gcp", "azure")
        for country in ("fr", "us")
    ]
    rows = fees(series, properties={"amount": "10", "pricing_group_keys": ["cloud"]}, filters=(aws, plain))
    assert [(fee.charge_filter_id, fee.grouped_by, fee.units) for fee in rows] == [
        ("aws", {"country": "fr"}, 10),
        ("aws", {"country": "us"}, 10),
        ("gcp", {}, 20),
        (None, {"cloud": "azure"}, 20),
    ]


def test_negative_usage_bills_nothing_and_details_say_why() -> None:
    tiers = [{"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"}]
    (fee,) = fees([({}, summed(-10))], model=ChargeModel.GRADUATED, properties={"graduated_ranges": tiers})
    assert (fee.units, fee.amount_cents, fee.precise_unit_amount, fee.total_aggregated_units) == (0, 0, 0, 0)
    assert fee.events_count == 1
    assert fee.amount_details["graduated_ranges"][0]["units"] == "-10.0"


def test_negative_units_are_not_shown_even_where_they_cost_nothing() -> None:
    (fee,) = fees([({}, summed(-10))], model=ChargeModel.PACKAGE, properties=package("1"))
    assert (fee.units, fee.total_aggregated_units, fee.amount_cents) == (0, 0, 0)


def test_a_negative_weighted_sum_still_says_its_level() -> None:
    """semantics-metering.md 7.5 #10: -10 from day 16 on; here of September."""
    partial = summed(-10, moment=-10 * epoch_seconds(ts(2023, 9, 16)))
    (fee,) = fees([({}, partial)], properties={"amount": "1"}, aggregation=aggregations.WEIGHTED_SUM)
    assert (fee.units, fee.amount_cents, fee.total_aggregated_units) == (0, 0, -10)


def test_the_units_are_rounded_before_they_are_priced() -> None:
    (fee,) = fees(
        [({}, summed("100.4")), ({}, summed("23.056"))],
        properties={"amount": "1"},
        rounding_function="ceil",
        rounding_precision=-2,
    )
    assert (fee.units, fee.amount_cents, fee.events_count) == (200, 20_000, 2)


def test_the_cents_of_a_unit_are_cut_off() -> None:
    """semantics-metering.md 7.8 #11."""
    tier = {"from_value": 0, "to_value": None, "per_unit_amount": "0.01", "flat_amount": "0.01"}
    (fee,) = fees(
        [({}, Partial(events_count=4))],
        model=ChargeModel.GRADUATED,
        properties={"graduated_ranges": [tier]},
        aggregation=COUNT,
    )
    assert (fee.amount_cents, fee.precise_unit_amount, fee.unit_amount_cents) == (5, Decimal("0.0125"), 1)


def test_dynamic_amounts_are_rounded_in_each_group() -> None:
    """semantics-metering.md 7.12 #6."""
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"k": "1"}, summed(10, precise_amount_cents=Decimal("10.1"))),
        ({"k": "2"}, summed(10, precise_amount_cents=Decimal("901.9"))),
    ]
    grouped = fees(series, model=ChargeModel.DYNAMIC, properties={"pricing_group_keys": ["k"]})
    assert [fee.amount_cents for fee in grouped] == [10, 902]
    (whole,) = fees(series, model=ChargeModel.DYNAMIC, properties={})
    assert (whole.amount_cents, whole.precise_amount_cents) == (912, 912)


def in_order(*values: int) -> Partial:
    start = ts(2023, 9, 2)
    instances = tuple((start + timedelta(hours=n), n, Decimal(value)) for n, value in enumerate(values))
    return Partial(
        events_count=len(values),
        values_count=len(values),
        sum=Decimal(sum(values)),
        max=Decimal(max(values)),
        values=instances,
    )


FREE = {
    "rate": "1.3",
    "fixed_amount": "2",
    "free_units_per_events": 3,
    "free_units_per_total_aggregation": "250",
}


@pytest.mark.parametrize(
    ("aggregation", "properties", "partial", "cents"),
    [
        (SUM, FREE, in_order(50, 100, 250, 400), 1115),
        (SUM, {"rate": "1.3", "fixed_amount": "2"}, in_order(50, 100, 250, 400), 1840),
        (
            SUM,
            {"rate": "2.99", "per_transaction_min_amount": "1.75", "per_transaction_max_amount": "12"},
            in_order(10, 80, 10_000),
            1614,
        ),
        # 1 of 4 events is free: 3 x 1 % + 3 x 1.00
        (COUNT, {"rate": "1", "fixed_amount": "1", "free_units_per_events": 1}, Partial(events_count=4), 303),
        (COUNT, {"rate": "1", "fixed_amount": "1", "free_units_per_events": 1}, Partial(events_count=1), 0),
        (COUNT, {"rate": "100", "per_transaction_min_amount": "3"}, Partial(events_count=4), 1200),
        (COUNT, {"rate": "100", "per_transaction_max_amount": "3"}, Partial(events_count=4), 400),
        # the greatest value is priced at its first occurrence, the rest as 0: 1 + 9 + 1 + 1
        (
            aggregations.MAX,
            {"rate": "10", "per_transaction_min_amount": "1"},
            in_order(50, 90, 90, 70),
            1200,
        ),
        # of a greatest value no units are free, but events: 90 x 10 % + 2 x 1.00
        (
            aggregations.MAX,
            {
                "rate": "10",
                "fixed_amount": "1",
                "free_units_per_events": 1,
                "free_units_per_total_aggregation": "20",
            },
            in_order(50, 90, 7),
            1100,
        ),
        (
            aggregations.LATEST,
            {"rate": "10", "free_units_per_total_aggregation": "20"},
            in_order(50, 90, 7)._replace(last=(ts(2023, 9, 9), 9, Decimal(7))),
            70,
        ),
    ],
)
def test_percentage_charges_look_at_single_events(
    aggregation: Aggregation, properties: dict[str, Any], partial: Partial, cents: int
) -> None:
    (fee,) = fees(
        [({}, partial)],
        model=ChargeModel.PERCENTAGE,
        properties=properties,
        aggregation=aggregation,
    )
    assert fee.amount_cents == cents


def test_the_price_of_an_event_is_bounded_in_its_own_period_alone() -> None:
    """A recurring sum still has the 7 of August: it is in the units, and is the free event."""
    values = (
        (ts(2023, 8, 2), 1, Decimal(7)),
        (ts(2023, 9, 3), 2, Decimal(4)),
        (ts(2023, 9, 9), 3, Decimal(60)),
    )
    bounds = {"rate": "10", "per_transaction_min_amount": "2", "per_transaction_max_amount": "5"}
    (both,) = fees(
        [({}, summed(71, events_count=3, values=values))], model=ChargeModel.PERCENTAGE, properties=bounds
    )
    assert (both.units, both.amount_cents) == (71, 200 + 500)
    assert both.amount_details["min_max_adjustment_total_amount"] == "-0.1"
    (old,) = fees([({}, summed(7, values=values[:1]))], model=ChargeModel.PERCENTAGE, properties=bounds)
    assert (old.units, old.amount_cents) == (7, 0)
    free = {"rate": "10", "free_units_per_events": 1}
    (fee,) = fees(
        [({}, summed(71, events_count=3, values=values))], model=ChargeModel.PERCENTAGE, properties=free
    )
    assert (fee.amount_details["free_units"], fee.amount_cents) == ("7.0", 640)


@pytest.mark.parametrize("allowance", [3, 4, 9])
def test_a_count_has_no_more_free_units_than_units(allowance: int) -> None:
    (fee,) = fees(
        [({}, Partial(events_count=4))],
        model=ChargeModel.PERCENTAGE,
        properties={"rate": "100", "free_units_per_events": allowance},
        aggregation=COUNT,
    )
    free = min(allowance, 4)
    assert (fee.amount_details["free_units"], fee.amount_cents) == (f"{free}.0", 100 * (4 - free))


def test_only_percentages_with_allowances_or_bounds_read_single_events() -> None:
    def reads(model: ChargeModel, properties: dict[str, Any]) -> bool:
        charge = compile_charge(
            charge_id="charge",
            model=model,
            properties=properties,
            filters=(),
            aggregation=SUM,
            currency="USD",
        )
        return charge.buckets[0].reads_events

    assert reads(ChargeModel.PERCENTAGE, FREE)
    assert not reads(ChargeModel.PERCENTAGE, {"rate": "1", "fixed_amount": "1"})
    assert not reads(ChargeModel.PACKAGE, package("1"))


def test_an_invoice_has_no_idle_fees_but_flat_amounts() -> None:
    flat = {
        "graduated_ranges": [{"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "7"}]
    }
    free = {"graduated_ranges": [{**flat["graduated_ranges"][0], "flat_amount": "0"}]}
    charge = compile_charge(
        charge_id="charge",
        model=ChargeModel.GRADUATED,
        properties=free,
        filters=[
            ChargeFilter(name, {"cloud": (name,)}, None, own)
            for name, own in (("a", flat), ("b", free), ("c", free))
        ],
        aggregation=SUM,
        currency="USD",
    )

    def billed(*series: tuple[dict[str, str | None], Partial]) -> list[tuple[Any, str, int]]:
        rows = rate(charge, series, subscription_id="sub", with_idle=False, rated=in_period(SEPTEMBER))
        assert not any(fee.pay_in_advance or fee.is_true_up for fee in rows)
        return figures(rows)

    assert billed() == [("a", "0", 700)]
    used = billed(({"cloud": "b"}, summed(2)), ({}, summed(0)))
    assert used == [("a", "0", 700), ("b", "2", 200), (None, "0", 0)]


def test_two_groups_are_named() -> None:
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"region": name}, summed(1)) for name in ("us", "eu")
    ]
    rows = fees(series, properties={"amount": "1", "pricing_group_keys": ["region"]})
    assert [fee.grouped_by["region"] for fee in rows] == ["eu", "us"]


dimensions = st.fixed_dictionaries(
    {"model": st.sampled_from([None, "a", "b", "c"]), "region": st.sampled_from([None, "", "eu", "us"])}
)
priced_filters = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from(["model", "region"]),
            st.lists(st.sampled_from(["a", "b", "eu", "us"]), min_size=1, unique=True).map(tuple),
            min_size=1,
        ),
        decimals(0, 3, 3),
        st.sampled_from([[], ["region"], ["region", "model"]]),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(dimensions, decimals(0, 50, 2)), max_size=10), priced_filters, decimals(0, 3, 3))
def test_fees_are_those_of_sorting_the_events_by_hand(
    sent: list[tuple[dict[str, str | None], Decimal]], drawn: list[Any], default: Decimal
) -> None:
    filters = tuple(
        ChargeFilter(n, values, None, {"amount": str(amount), "pricing_group_keys": keys})
        for n, (values, amount, keys) in enumerate(drawn)
    )
    rows = fees(
        [(texts, summed(value)) for texts, value in sent],
        properties={"amount": str(default)},
        filters=filters,
    )
    buckets: dict[Any, list[Decimal]] = {}
    for texts, value in sent:
        best = best_match(texts, filters)
        keys = best.properties["pricing_group_keys"] if best else []
        buckets.setdefault((best.id if best else None, group_of(texts, keys)), []).append(value)
    found = {(fee.charge_filter_id, tuple(fee.grouped_by.items())): fee for fee in rows if fee.events_count}
    assert found.keys() == buckets.keys()
    for (filter_id, group), values in buckets.items():
        amount = default if filter_id is None else Decimal(filters[filter_id].properties["amount"])
        fee = found[filter_id, group]
        assert (fee.units, fee.events_count) == (sum(values), len(values))
        assert fee.amount_cents == round_cents(minor(sum(values) * amount, "USD"))
    idle = [fee.charge_filter_id for fee in rows if not fee.events_count]
    used = {filter_id for filter_id, _ in buckets}
    assert idle == [each for each in [*range(len(filters)), None] if each not in used]


@given(st.lists(decimals(0, 10**7, 3), min_size=1, max_size=6), st.sampled_from(list(ChargeModel)))
def test_a_fee_is_the_price_of_the_merged_sums(values: list[Decimal], model: ChargeModel) -> None:
    tiers = [
        {"from_value": 0, "to_value": 100, "per_unit_amount": "0.5", "rate": "1", "flat_amount": "1"},
        {"from_value": 101, "to_value": None, "per_unit_amount": "0.3", "rate": "2", "flat_amount": "0"},
    ]
    keys = ("graduated_ranges", "graduated_percentage_ranges", "volume_ranges")
    properties = {**package("0.03"), "rate": "3", "fixed_amount": "0.1", **dict.fromkeys(keys, tiers)}
    partials = [summed(value, precise_amount_cents=value) for value in values]
    (fee,) = fees([({}, partial) for partial in partials], model=model, properties=properties)
    usage = SUM.aggregate(merge_all(partials))
    expected = price(
        model,
        units=usage.units,
        properties=properties,
        currency="USD",
        events_count=usage.events_count,
        precise_amount_cents=sum(values, Decimal(0)),
    )
    assert fee.amount_cents == round_cents(minor(expected.amount, "USD"))
    assert fee.units == usage.units
    assert fee.amount_details == expected.details


def whole(value: Fraction, function: str | None, precision: int) -> Fraction:
    """Rounded as a metric says, in whole numbers alone."""
    if function is None:
        return value
    scaled = value * Fraction(10) ** precision
    number = {"ceil": ceil(scaled), "floor": floor(scaled), "round": half_away(scaled)}[function]
    return number / Fraction(10) ** precision


def half_away(value: Fraction) -> int:
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(-value + Fraction(1, 2))


def by_hand(model: ChargeModel, ladder: Ladder, units: Fraction) -> Fraction:
    """What units of 0 or more cost in the tiers; a package is of as many units as there are tiers, and costs a rate."""
    rates, flats = ([Fraction(each) for each in amounts] for amounts in (ladder.rates, ladder.flats))
    if model is ChargeModel.STANDARD:
        return units * rates[0]
    if model is ChargeModel.PACKAGE:
        return ceil(max(units - 1, Fraction(0)) / len(rates)) * rates[0]
    if model is ChargeModel.VOLUME:
        place = sum(1 for bound in ladder.bounds if bound < units)
        return units * rates[place] + flats[place]
    percent = 100 if model is ChargeModel.GRADUATED_PERCENTAGE else 1
    total, below = flats[0], Fraction(0)
    for place, percentage in enumerate(rates):
        top = Fraction(ladder.bounds[place]) if place < len(ladder.bounds) else units
        if place and units > below:
            total += flats[place]
        total += max(min(units, top) - below, Fraction(0)) * percentage / percent
        below = top
    return total


@given(
    sent=events(),
    kind=st.sampled_from([COUNT, SUM, aggregations.MAX, aggregations.LATEST, aggregations.UNIQUE_COUNT]),
    model=st.sampled_from(
        [
            ChargeModel.STANDARD,
            ChargeModel.PACKAGE,
            ChargeModel.VOLUME,
            ChargeModel.GRADUATED,
            ChargeModel.GRADUATED_PERCENTAGE,
        ]
    ),
    ladder=ladders(),
    rounding=st.tuples(st.sampled_from([None, "round", "ceil", "floor"]), st.integers(-1, 2)),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_a_fee_is_what_its_events_come_to_by_hand(
    *,
    sent: list[Sent],
    kind: Aggregation,
    model: ChargeModel,
    ladder: Ladder,
    rounding: tuple[str | None, int],
    currency: str,
) -> None:
    """From events to cents, for each aggregation and each model, told a second time in fractions."""
    charge = compile_charge(
        charge_id="charge",
        model=model,
        properties={
            "amount": str(ladder.rates[0]),
            "package_size": len(ladder.rates),
            "free_units": 1,
            "graduated_ranges": ladder.tiers(gap=1),
            "volume_ranges": ladder.tiers(gap=1),
            "graduated_percentage_ranges": ladder.tiers(gap=1, key="rate"),
        },
        filters=(),
        aggregation=kind,
        currency=currency,
        rounding_function=rounding[0],
        rounding_precision=rounding[1],
    )
    series: list[tuple[dict[str, str | None], Partial]] = [({}, each.partial()) for each in sent]
    (fee,) = rate(charge, series, subscription_id="sub", rated=in_period(SEPTEMBER))
    usage = expected(sent, kind)
    units = whole(Fraction(usage.units), *rounding)
    owed = by_hand(model, ladder, units) if units >= 0 else Fraction(0)
    assert Fraction(fee.units) == max(units, 0)
    assert fee.amount_cents == half_away(owed * subunits(currency))
    assert fee.events_count == usage.events_count


def test_a_plans_charge_is_compiled_with_what_its_metric_lists_now() -> None:
    at = ts(2023, 9, 1)
    metric = BillableMetric(
        id=UUID(int=1),
        organization_id=UUID(int=2),
        name="Tokens",
        code="tokens",
        description=None,
        aggregation=aggregations.SUM,
        field_name="tokens",
        recurring=False,
        rounding_function="ceil",
        rounding_precision=0,
        weighted_interval=None,
        expression=None,
        filters={"model": ("8K", "32K")},
        created_at=at,
        updated_at=at,
    )
    charge = Charge(
        id=UUID(int=3),
        plan_id=UUID(int=4),
        parent_id=None,
        metric=metric,
        code="tokens",
        invoice_display_name="Tokens",
        charge_model=ChargeModel.STANDARD,
        pay_in_advance=False,
        prorated=False,
        invoiceable=True,
        regroup_paid_fees=None,
        min_amount_cents=0,
        accepts_target_wallet=False,
        properties={"amount": "1"},
        filters=(
            PlanFilter(
                id=UUID(int=5),
                invoice_display_name="GPT-4",
                values={"model": ("__ALL_FILTER_VALUES__",)},
                properties={"amount": "2"},
            ),
        ),
        created_at=at,
    )
    rows = rate(
        compile_plan_charge(charge, currency="JPY"),
        [({"model": "32K"}, summed("1.2")), ({"model": "128K"}, summed("1.2"))],
        subscription_id=UUID(int=6),
        rated=in_period(SEPTEMBER),
    )
    assert [(fee.charge_filter_id, fee.units, fee.amount_cents) for fee in rows] == [
        (UUID(int=5), 2, 4),
        (None, 2, 2),
    ]
    assert rows[0].invoice_display_name == "GPT-4"


# --- the plan's own fee -----------------------------------------------------------------------------------


def plan_fee(amount_cents: int, days: int, days_in_period: int) -> Fee:
    return subscription_fee(
        subscription_id="sub",
        amount_cents=amount_cents,
        currency="EUR",
        period=SEPTEMBER,
        days=days,
        days_in_period=days_in_period,
    )


@pytest.mark.parametrize(
    ("amount_cents", "days", "days_in_period", "cents"),
    [
        # semantics-billing.md 3.11 and section 12
        (10_000, 21, 28, 7_500),
        (1_000, 2, 30, 67),
        (1_000, 1, 30, 33),
        (1_000, 1, 31, 32),
        (5_000_000, 17, 31, 2_741_935),
        (10_000_000, 14, 31, 4_516_129),
        (5_000_000, 29, 30, 4_833_333),
        (12_000, 275, 366, 9_016),
        (118_800, 243, 366, 78_875),
        (1_000, 17, 31, 548),
        (1, 1, 2, 1),
        (700, 0, 7, 0),
    ],
)
def test_days_of_a_plan(amount_cents: int, days: int, days_in_period: int, cents: int) -> None:
    fee = plan_fee(amount_cents, days, days_in_period)
    assert fee.amount_cents == fee.unit_amount_cents == cents
    assert (fee.kind, fee.units, fee.events_count) == ("subscription", 1, None)
    assert fee.amount_details == {"plan_amount_cents": amount_cents}


@given(st.integers(0, 10**12), st.integers(1, 366), st.data())
def test_the_share_of_a_plan_is_exact(amount_cents: int, days_in_period: int, data: st.DataObject) -> None:
    days = data.draw(st.integers(0, days_in_period))
    fee = plan_fee(amount_cents, days, days_in_period)
    share = Fraction(amount_cents * days, days_in_period)
    assert abs(fee.amount_cents - share) <= Fraction(1, 2)
    assert abs(Fraction(fee.precise_amount_cents) - share) <= Fraction(1, 2 * 10**15)
    if share % 1 == Fraction(1, 2):
        assert fee.amount_cents > share


def test_instants_of_the_period_are_passed_on() -> None:
    fee = plan_fee(100, 1, 1)
    assert (fee.from_, fee.to) == (datetime.fromisoformat("2023-09-01T00:00:00+00:00"), SEPTEMBER.to)


def test_lines_are_shown_by_properties_that_do_not_price() -> None:
    """semantics-metering.md 4.5: in each filter and group the units of each value, those without one last; an invoice shows some."""
    properties = {
        "amount": "2",
        "pricing_group_keys": ["cloud"],
        "presentation_group_keys": [
            {"value": "region", "options": {"display_in_invoice": True}},
            {"value": "team"},
        ],
    }
    cheap = ChargeFilter("cheap", {"model": ("8K",)}, None, {"amount": "1"})
    series: list[tuple[dict[str, str | None], Partial]] = [
        ({"cloud": "aws", "region": "us", "team": "b"}, summed(5)),
        ({"cloud": "aws", "region": "eu", "team": "b"}, summed(2)),
        ({"cloud": "aws", "region": "eu", "team": "a"}, summed(0)),
        ({"cloud": "aws", "region": None, "team": "a"}, summed(7)),
        ({"cloud": "gcp", "region": "eu", "team": "a"}, summed(1)),
        ({"cloud": "gcp", "region": "eu", "team": "a", "model": "8K"}, summed(9)),
    ]
    rows = fees(series, properties=properties, filters=(cheap,))
    shown = [
        (
            fee.charge_filter_id,
            fee.grouped_by.get("cloud"),
            [(*each.presentation_by.values(), int(each.units)) for each in fee.presentation.breakdowns],
        )
        for fee in rows
        if fee.presentation
    ]
    assert shown == [
        ("cheap", None, [("eu", "a", 9)]),
        (None, "aws", [("eu", "a", 0), ("eu", "b", 2), ("us", "b", 5), ("", "a", 7)]),
        (None, "gcp", [("eu", "a", 1)]),
    ]
    assert {fee.presentation.on_invoice for fee in rows if fee.presentation} == {("region",)}
    assert [fee.amount_cents for fee in rows] == [900, 2_800, 200]
    (idle,) = fees([], properties=properties | {"pricing_group_keys": []})
    assert idle.presentation is not None
    assert idle.presentation.breakdowns == ()
    (plain,) = fees(series[:1], properties={"amount": "2"})
    assert plain.presentation is None


def test_of_what_recurs_only_the_events_of_the_period_are_bounded_one_by_one() -> None:
    """Three values stood before, and five came: of eight events five cost at least 2 each."""
    before = Partial(
        events_count=3,
        carried_over_events_count=3,
        uniques={f"old-{n}": (ts(2023, 8, 1), n, True) for n in range(3)},
    )
    came = Partial(events_count=5, uniques={f"new-{n}": (ts(2023, 9, 2), n, True) for n in range(5)})
    (fee,) = fees(
        [({}, before), ({}, came)],
        model=ChargeModel.PERCENTAGE,
        properties={"rate": "1", "per_transaction_min_amount": "2"},
        aggregation=aggregations.UNIQUE_COUNT,
    )
    assert (fee.units, fee.amount_cents) == (8, 5 * 200)
