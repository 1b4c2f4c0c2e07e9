"""The answer's structure, made of a charge and of what its series came to; no database is asked."""

import itertools
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st
from starlette.datastructures import QueryParams

from permille.api.usage import read_search, render_usage, written_or_rendered
from permille.core.contract.plan import Charge, PlanFilter
from permille.core.metering.aggregations import aggregation_of
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.usage import Partial
from permille.core.money import exact
from permille.core.period import Period
from permille.core.rating import rate as rating
from permille.core.rating.linear import has_one_price
from permille.core.rating.models import ChargeModel
from permille.core.rating.pricing_unit import AppliedPricingUnit, PricingUnit
from permille.core.rating.proration import rated_period
from permille.core.rating.rate import price_usage, rate
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import replace
from permille.database.connections import encode_answer
from permille.usecases.usage.usage import (
    ChargeUsage,
    PeriodUsage,
    UsageSearch,
    charge_usage,
    compile_searched,
)

MARCH = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
PLAIN = UsageSearch()


def metric(aggregation_type: str = "sum_agg", **filters: tuple[str, ...]) -> BillableMetric:
    return BillableMetric(
        id=UUID(int=1),
        organization_id=UUID(int=2),
        name="Calls",
        code="calls",
        description=None,
        aggregation=aggregation_of(aggregation_type),
        field_name=None if aggregation_type == "count_agg" else "value",
        recurring=False,
        rounding_function=None,
        rounding_precision=None,
        weighted_interval=None,
        expression=None,
        filters=filters,
        created_at=MARCH.from_,
        updated_at=MARCH.from_,
    )


def charge(
    of: BillableMetric, properties: dict[str, Any], *filters: PlanFilter, model: str = "standard"
) -> Charge:
    return Charge(
        id=UUID(int=3),
        plan_id=UUID(int=4),
        parent_id=None,
        metric=of,
        code="calls",
        invoice_display_name=None,
        charge_model=ChargeModel(model),
        pay_in_advance=False,
        prorated=False,
        invoiceable=True,
        regroup_paid_fees=None,
        min_amount_cents=0,
        accepts_target_wallet=False,
        properties=properties,
        filters=filters,
        created_at=MARCH.from_,
    )


def price(name: str | None, properties: dict[str, Any], **values: tuple[str, ...]) -> PlanFilter:
    return PlanFilter(
        id=UUID(int=hash((name, *values.values())) % 2**100),
        invoice_display_name=name,
        values=values,
        properties=properties,
    )


def used(units: int, **dimensions: str | None) -> tuple[dict[str, str | None], Partial]:
    return dimensions, Partial(events_count=units, values_count=units, sum=Decimal(units))


def period_usage(found: ChargeUsage) -> PeriodUsage:
    return PeriodUsage(
        period=MARCH,
        issuing_date=date(2024, 3, 31),
        currency="EUR",
        amount_cents=sum(line.amount_cents for line in found.lines),
        taxes_amount_cents=0,
        invoice_id=None,
        charges=(found,),
    )


def shown(of: Charge, *series: Any, search: UsageSearch = PLAIN) -> dict[str, Any]:
    found = charge_usage(
        of,
        compile_searched(of, search, currency="EUR"),
        series,
        search=search,
        subscription_id=UUID(int=5),
        rated=rated_period(MARCH, MARCH, "UTC"),
    )
    written = encode_answer(render_usage(period_usage(found)))
    assert encode_answer(render_usage(period_usage(found), groups=written_or_rendered)) == written
    rendered = json.loads(written)
    assert rendered["from_datetime"] == "2024-03-01T00:00:00Z"
    assert rendered["to_datetime"] == "2024-03-31T23:59:59Z"
    (item,) = rendered["charges_usage"]
    assert item["amount_cents"] == rendered["amount_cents"] == rendered["total_amount_cents"]
    return item


def test_one_filter_in_groups_as_lago_shows_it():
    keys = {"pricing_group_keys": ["region"]}
    aws = price("AWS", {"amount": "10", **keys}, cloud=("aws",))
    calls = charge(metric("count_agg", cloud=("aws", "gcp")), {"amount": "10", **keys}, aws)
    item = shown(calls, used(2, cloud="aws", region="us"), used(1, cloud="aws", region="eu"))
    some = {
        "units": "3.0",
        "total_aggregated_units": "3.0",
        "events_count": 3,
        "amount_cents": 3000,
        "pricing_unit_details": None,
        "unpriced_units": "0.0",
    }
    nothing = {
        "units": "0.0",
        "total_aggregated_units": "0.0",
        "events_count": 0,
        "amount_cents": 0,
        "pricing_unit_details": None,
        "unpriced_units": "0.0",
    }
    assert item == {
        **some,
        "amount_currency": "EUR",
        "charge": {
            "lago_id": str(UUID(int=3)),
            "code": "calls",
            "charge_model": "standard",
            "invoice_display_name": None,
        },
        "billable_metric": {
            "lago_id": str(UUID(int=1)),
            "name": "Calls",
            "code": "calls",
            "aggregation_type": "count_agg",
        },
        "filters": [
            {
                **some,
                "invoice_display_name": "AWS",
                "values": {"cloud": ["aws"]},
                "presentation_breakdowns": [],
            },
            {**nothing, "invoice_display_name": None, "values": None, "presentation_breakdowns": []},
        ],
        "grouped_usage": item["grouped_usage"],
        "presentation_breakdowns": [],
    }
    groups = [(each["grouped_by"], each["units"]) for each in item["grouped_usage"]]
    assert groups == [({"region": "eu"}, "1.0"), ({"region": "us"}, "2.0"), ({"region": None}, "0.0")]
    assert [each["filters"][0]["values"] for each in item["grouped_usage"]] == [
        {"cloud": ["aws"]},
        {"cloud": ["aws"]},
        None,
    ]


def test_the_same_group_of_two_filters_is_one_item():
    keys = {"pricing_group_keys": ["region"]}
    calls = charge(
        metric(cloud=("aws", "gcp")),
        {"amount": "1"},
        price("AWS", {"amount": "2", **keys}, cloud=("aws",)),
        price("GCP", {"amount": "3", **keys}, cloud=("gcp",)),
    )
    item = shown(
        calls,
        used(1, cloud="aws", region="eu"),
        used(1, cloud="gcp", region="eu"),
        used(1, cloud="x", region="eu"),
    )
    eu, rest = item["grouped_usage"]
    assert (eu["grouped_by"], eu["units"], eu["amount_cents"]) == ({"region": "eu"}, "2.0", 500)
    assert [each["invoice_display_name"] for each in eu["filters"]] == ["AWS", "GCP"]
    assert (rest["grouped_by"], rest["units"], rest["amount_cents"]) == ({}, "1.0", 100)


def test_tokens_of_the_seed_article():
    filters = [
        price(
            f"{model} {kind}",
            {"amount": amount, "package_size": 1000, "free_units": 0},
            model=(model,),
            type=(kind,),
        )
        for model, kind, amount in [
            ("8k", "input", "0.03"),
            ("8k", "output", "0.06"),
            ("32k", "input", "0.06"),
            ("32k", "output", "0.12"),
        ]
    ]
    free = {"amount": "0", "package_size": 1000, "free_units": 0}
    tokens = charge(metric(model=("8k", "32k"), type=("input", "output")), free, *filters, model="package")
    item = shown(
        tokens,
        used(1234, model="8k", type="input"),
        used(999, model="8k", type="output"),
        used(10_000, model="32k", type="input"),
        used(1, model="32k", type="output"),
        used(5_000, model="128k", type="input"),
    )
    assert (item["units"], item["amount_cents"]) == ("17234.0", 84)
    assert [each["amount_cents"] for each in item["filters"]] == [6, 6, 60, 12, 0]
    assert item["filters"][-1]["values"] is None
    assert item["filters"][-1]["units"] == "5000.0"


def graduated(**keys: Any) -> Charge:
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "2", "flat_amount": "0"},
    ]
    return charge(metric(), {"graduated_ranges": ranges, **keys}, model="graduated")


def test_groups_are_priced_apart_and_skip_grouping_prices_them_as_one():
    calls = graduated(pricing_group_keys=["region"])
    series = [used(10, region="eu"), used(10, region="us")]
    apart = shown(calls, *series)
    assert (apart["amount_cents"], len(apart["grouped_usage"])) == (2000, 2)
    together = shown(calls, *series, search=UsageSearch(skip_grouping=True))
    assert (together["amount_cents"], together["grouped_usage"]) == (3000, [])


def test_a_group_search_keeps_its_events_and_is_no_group_any_more():
    calls = graduated(pricing_group_keys=["region", "user"])
    series = [used(4, region="eu", user="a"), used(5, region="eu", user="b"), used(6, region="us", user="a")]
    item = shown(calls, *series, search=UsageSearch(groups={"region": ("eu",)}))
    assert item["units"] == "9.0"
    assert [each["grouped_by"] for each in item["grouped_usage"]] == [{"user": "a"}, {"user": "b"}]
    both = shown(calls, *series, search=UsageSearch(groups={"region": ("eu", "us"), "user": ("a",)}))
    assert (both["units"], both["grouped_usage"]) == ("10.0", [])


def test_presentation_only_shows():
    calls = graduated(presentation_group_keys=[{"value": "region"}, {"value": "team"}])
    series = [
        used(8, region="eu", team="x"),
        used(2, region="eu", team="x"),
        used(5, region="us", team=""),
    ]
    item = shown(calls, *series)
    assert item["amount_cents"] == 2000
    assert item["presentation_breakdowns"] == [
        {"presentation_by": {"region": "eu", "team": "x"}, "units": "10.0"},
        {"presentation_by": {"region": "us", "team": ""}, "units": "5.0"},
    ]
    some = shown(calls, *series, search=UsageSearch(presentation=("us",)))
    assert [each["units"] for each in some["presentation_breakdowns"]] == ["5.0"]
    assert shown(calls, *series, search=UsageSearch(presentation=()))["presentation_breakdowns"] == []


def test_presentation_inside_filters_and_groups():
    keys = {"pricing_group_keys": ["user"]}
    calls = charge(
        metric(cloud=("aws",)),
        {"amount": "1", **keys, "presentation_group_keys": [{"value": "region"}]},
        price("AWS", {"amount": "2"}, cloud=("aws",)),
    )
    series = [
        used(1, cloud="aws", region="eu", user="a"),
        used(2, cloud="aws", region="us", user="a"),
        used(4, region="eu", user="a"),
        used(8, region="eu", user="b"),
    ]
    item = shown(calls, *series)
    assert item["presentation_breakdowns"] == []
    aws, rest = item["filters"]
    assert [each["units"] for each in aws["presentation_breakdowns"]] == ["1.0", "2.0"]
    assert rest["presentation_breakdowns"] == [{"presentation_by": {"region": "eu"}, "units": "12.0"}]
    by_user = {each["grouped_by"].get("user"): each for each in item["grouped_usage"]}
    assert by_user["a"]["presentation_breakdowns"] == [{"presentation_by": {"region": "eu"}, "units": "4.0"}]
    assert by_user[None]["presentation_breakdowns"] == []


@pytest.mark.parametrize(
    ("query", "groups"),
    [
        ("group[region]=eu", {"region": ("eu",)}),
        ("group[region][]=eu&group[region][]=us", {"region": ("eu", "us")}),
        ("group[region]=eu&group[user]=a", {"region": ("eu",), "user": ("a",)}),
        ('group={"region": ["eu", "us"], "user": "a"}', {"region": ("eu", "us"), "user": ("a",)}),
        ("filter_by_group[region]=eu", {"region": ("eu",)}),
        ("group[region]=eu&filter_by_group[region]=us", {"region": ("eu",)}),
        ('group={"region": [7, 1.50, true, null]}', {"region": ("7", "1.50", "true", "")}),
        ("group[region]=", {"region": ("",)}),
        ("group=junk&group[=x&group[]=y&group={", {}),
    ],
)
def test_group_searches_are_read(query, groups):
    found = read_search(QueryParams(query.replace(" ", "")))
    assert found.groups == groups


def test_searches_are_read_under_their_former_names_too():
    found = read_search(
        QueryParams("filter_by_charge_code=a&charge_code=b&filter_by_metric_code=m&skip_grouping=true")
    )
    assert (found.charge_code, found.billable_metric_code, found.skip_grouping) == ("b", "m", True)
    assert found.presentation is None
    assert read_search(QueryParams('filter_by_presentation=["eu"]')).presentation == ("eu",)
    assert read_search(QueryParams("filter_by_presentation=[7,false,null]")).presentation == (
        "7",
        "false",
        "",
    )
    assert read_search(QueryParams("filter_by_presentation=[]")).presentation == ()
    assert read_search(QueryParams("apply_taxes=0&skip_grouping=1&full_usage=1")) == UsageSearch(
        with_taxes=False, skip_grouping=True, full_usage=True
    )


PRICES: dict[str, dict[str, Any]] = {
    "standard": {"amount": "0.015"},
    "package": {"amount": "0.33", "package_size": 7, "free_units": 3},
    "graduated": {
        "graduated_ranges": [
            {"from_value": 0, "to_value": 5, "per_unit_amount": "0.5", "flat_amount": "1"},
            {"from_value": 6, "to_value": None, "per_unit_amount": "0.335", "flat_amount": "0.004"},
        ]
    },
    "percentage": {"rate": "1.5", "fixed_amount": "0.01", "free_units_per_events": 1},
    "dynamic": {},
}
CREDITS = AppliedPricingUnit(
    unit=PricingUnit(
        id=UUID(int=6),
        code="credits",
        name="Credits",
        short_name="cr",
        description=None,
        created_at=MARCH.from_,
    ),
    conversion_rate=Decimal("0.37"),
)


@pytest.mark.parametrize("in_advance", [False, True])
@pytest.mark.parametrize("unit", [None, CREDITS])
@pytest.mark.parametrize("model", PRICES)
def test_lines_are_those_of_the_fees(model: str, unit: AppliedPricingUnit | None, *, in_advance: bool):
    """Usage that is shown without a projection is priced without making fees: the lines are the same."""
    properties = {**PRICES[model], "pricing_group_keys": ["region"]}
    own = price("AWS", {**properties, "amount": "0.7"}, cloud=("aws",))
    clouds = metric(cloud=("aws", "gcp"))
    of = replace(
        charge(clouds, properties, own, model=model),
        applied_pricing_unit=unit,
        pay_in_advance=in_advance and model != "graduated",
        unlisted_values=UnlistedValues.HELD,
    )
    places = itertools.product(("aws", "gcp", None), ("us", "", None), (-3, 0, 4, 9))
    series = [
        (
            {"cloud": cloud, "region": region},
            Partial(units % 5, units % 4, Decimal(units) / 3, precise_amount_cents=Decimal(units)),
        )
        for cloud, region, units in places
    ]
    series.append(({"cloud": "aws", "region": "losing"}, Partial(1, 1, Decimal(-5))))
    compiled = compile_searched(of, PLAIN, currency="EUR")
    rated = rated_period(MARCH, MARCH, "UTC")
    fees = rate(compiled, series, subscription_id=UUID(int=5), rated=rated)
    found = charge_usage(of, compiled, series, search=PLAIN, subscription_id=UUID(int=5), rated=rated)
    assert len({line.amount_cents for line in found.lines}) > 1
    assert [
        (line.filter and line.filter.id, line.grouped_by, line.units, line.total_aggregated_units)
        for line in found.lines
    ] == [(fee.charge_filter_id, fee.grouped_by, fee.units, fee.total_aggregated_units) for fee in fees]
    assert [
        (line.events_count, line.amount_cents, line.in_unit and line.in_unit.amount_cents, line.is_unpriced)
        for line in found.lines
    ] == [
        (fee.events_count, fee.amount_cents, fee.in_unit and fee.in_unit.amounts.amount_cents, fee.is_unpriced)
        for fee in fees
    ]  # fmt: skip


amounts = st.decimals(-(10**30), 10**30, allow_nan=False, allow_infinity=False)
used_series = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {"region": st.none() | st.text(max_size=4), "user": st.none() | st.text(max_size=4)}
        ),
        st.tuples(st.integers(0, 40), st.integers(0, 3), amounts, st.none() | amounts, amounts).map(
            lambda sums: Partial(*sums)
        ),
    ),
    max_size=6,
)


@settings(max_examples=60)
@given(
    used_series,
    st.sampled_from(sorted(PRICES)),
    st.sampled_from([("region",), ("region", "user")]),
    st.booleans(),
)
def test_groups_are_written_as_their_objects(series: Any, model: str, keys: tuple[str, ...], is_held: bool):
    of = charge(metric(), {**PRICES[model], "pricing_group_keys": list(keys)}, model=model)
    found = charge_usage(
        of,
        compile_searched(of, PLAIN, currency="EUR"),
        series,
        search=PLAIN,
        subscription_id=UUID(int=5),
        rated=rated_period(MARCH, MARCH, "UTC"),
    )
    found = replace(found, lines=tuple(line._replace(is_unpriced=is_held) for line in found.lines))
    whole = period_usage(found)
    assert encode_answer(render_usage(whole, groups=written_or_rendered)) == encode_answer(
        render_usage(whole)
    )


@settings(max_examples=60)
@given(
    used_series,
    st.sampled_from(sorted(PRICES)),
    st.sampled_from(["count_agg", "sum_agg", "max_agg", "latest_agg"]),
)
def test_what_is_priced_by_its_units_is_priced_as_all_else(series: Any, model: str, aggregation: str):
    of = charge(
        replace(metric(aggregation), rounding_function="ceil", rounding_precision=1),
        {**PRICES[model], "pricing_group_keys": ["region"]},
        model=model,
    )
    compiled, rated = compile_searched(of, PLAIN, currency="EUR"), rated_period(MARCH, MARCH, "UTC")
    with exact(), pytest.MonkeyPatch.context() as patch:
        found = list(price_usage(compiled, series, rated=rated))
        patch.setattr(rating, "_is_priced_by_units", lambda *_: False)
        assert found == list(price_usage(compiled, series, rated=rated))


priced_by_one = st.fixed_dictionaries({"amount": st.decimals(0, 10**9, places=7).map(str)})


@settings(max_examples=60)
@given(
    used_series,
    st.lists(priced_by_one, min_size=2, max_size=2),
    st.sampled_from([(), ("user",), ("region", "user")]),
    st.sampled_from(["count_agg", "sum_agg"]),
    st.sampled_from(list(UnlistedValues)),
)
def test_what_all_groups_pay_alike_is_priced_by_columns_as_all_else(
    series: Any,
    prices: list[dict[str, str]],
    keys: tuple[str, ...],
    aggregation: str,
    unlisted: UnlistedValues,
):
    own, by_region = ({**each, "pricing_group_keys": list(keys)} for each in prices)
    filters = [price(None, by_region, region=("a", "b", "0"))]
    of = replace(charge(metric(aggregation, region=("a", "b", "0")), own, *filters), unlisted_values=unlisted)
    compiled = compile_searched(of, PLAIN, currency="EUR")
    assert has_one_price(compiled)

    def lines() -> Any:
        return charge_usage(
            of,
            compiled,
            series,
            search=PLAIN,
            subscription_id=UUID(int=5),
            rated=rated_period(MARCH, MARCH, "UTC"),
        ).lines

    found = lines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("permille.usecases.usage.usage.has_one_price", lambda _: False)
        assert found == lines()
