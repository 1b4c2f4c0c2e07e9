"""What does not go together in a charge, and filters that follow their metric (semantics-metering.md 5.1 and 2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from permille.core.contract.plan import (
    Charge,
    Plan,
    PlanFilter,
    incompatibilities,
    sold_plan_id,
    trim_filters,
    yearly_amount_cents,
)
from permille.core.metering import aggregations
from permille.core.metering.aggregations import AGGREGATIONS, Aggregation, aggregation_of
from permille.core.metering.billable_metric import BillableMetric
from permille.core.period import Interval
from permille.core.rating.filters import ALL_FILTER_VALUES
from permille.core.rating.models import ChargeModel
from permille.core.record import replace

NOW = datetime(2024, 3, 5, tzinfo=UTC)
ID = UUID(int=1)
METRIC = BillableMetric(
    id=ID,
    organization_id=ID,
    name="m",
    code="m",
    description=None,
    aggregation=aggregations.SUM,
    field_name="n",
    recurring=False,
    rounding_function=None,
    rounding_precision=None,
    weighted_interval=None,
    expression=None,
    filters={"model": ("a", "b"), "type": ("in", "out")},
    created_at=NOW,
    updated_at=NOW,
)
CHARGE = Charge(
    id=ID,
    plan_id=ID,
    parent_id=None,
    metric=METRIC,
    code="c",
    invoice_display_name=None,
    charge_model=ChargeModel.STANDARD,
    pay_in_advance=False,
    prorated=False,
    invoiceable=True,
    regroup_paid_fees=None,
    min_amount_cents=0,
    accepts_target_wallet=False,
    properties={"amount": "1"},
    filters=(),
    created_at=NOW,
)
PLAN = Plan(
    id=ID,
    organization_id=ID,
    parent_id=None,
    code="p",
    name="p",
    invoice_display_name=None,
    description=None,
    interval=Interval.MONTHLY,
    amount_cents=100,
    amount_currency="EUR",
    pay_in_advance=False,
    trial_period=None,
    bill_charges_monthly=None,
    bill_fixed_charges_monthly=None,
    metadata=None,
    charges=(),
    created_at=NOW,
)
COMBINATIONS: list[dict[str, Any]] = [
    {"model": model, "kind": kind, "recurring": recurring, "in_advance": in_advance}
    for model, kind, recurring, in_advance in product(ChargeModel, AGGREGATIONS, (False, True), (False, True))
]


def problems(
    *, model: ChargeModel, kind: Aggregation, recurring: bool, in_advance: bool, **fields: Any
) -> list[tuple[str, str]]:
    metric = replace(METRIC, aggregation=kind, recurring=recurring)
    charge = replace(CHARGE, metric=metric, charge_model=model, pay_in_advance=in_advance, **fields)
    return incompatibilities(charge)


def refused(code: str, *, field: str, **fields: Any) -> set[tuple[str, Aggregation, bool, bool]]:
    """The combinations that are refused with the code for the field."""
    return {
        (each["model"], each["kind"], each["recurring"], each["in_advance"])
        for each in COMBINATIONS
        if (field, code) in problems(**each, **fields)
    }


def named(*names: str) -> list[Aggregation]:
    return [aggregation_of(name) for name in names]


def combinations(
    models: Iterable[str], kinds: Iterable[Aggregation], recurring: Iterable[bool], in_advance: Iterable[bool]
) -> set[tuple[str, Aggregation, bool, bool]]:
    return set(product(models, kinds, recurring, in_advance))


MODELS, KINDS, EITHER = list(ChargeModel), AGGREGATIONS, (False, True)


def test_what_can_be_paid_in_advance() -> None:
    """semantics-metering.md 5.1: no volume, nothing of which an event alone has no price."""
    invalid = combinations(["volume", "catalogue"], KINDS, EITHER, [True]) | combinations(
        MODELS, named("max_agg", "latest_agg", "weighted_sum_agg"), EITHER, [True]
    )
    assert refused("invalid_aggregation_type_or_charge_model", field="pay_in_advance") == invalid


def test_what_can_be_prorated() -> None:
    prorated = combinations(
        ["standard"], named("sum_agg", "unique_count_agg"), [True], EITHER
    ) | combinations(["volume", "graduated"], named("sum_agg", "unique_count_agg"), [True], [False])
    # Metrics of the others are never recurring; what they would be does not matter.
    never = set(named("count_agg", "max_agg", "latest_agg"))
    invalid = refused("invalid_billable_metric_or_charge_model", field="prorated", prorated=True)
    assert {each for each in invalid if each[1] not in never} == {
        each for each in combinations(MODELS, KINDS, EITHER, EITHER) - prorated if each[1] not in never
    }
    assert combinations(MODELS, never, [False], EITHER) <= invalid
    assert refused("invalid_billable_metric_or_charge_model", field="prorated") == set()


def test_what_models_need_of_their_metric() -> None:
    others = [("sum_agg", "dynamic"), ("sum_agg", "catalogue"), ("custom_agg", "custom")]
    invalid: set[Any] = set()
    for name, model in others:
        kind = aggregation_of(name)
        invalid |= combinations([model], [each for each in KINDS if each is not kind], EITHER, EITHER)
    assert refused("invalid_aggregation_type_or_charge_model", field="charge_model") == invalid
    dated = combinations(["catalogue"], KINDS, [True], EITHER)
    assert refused("not_compatible_with_recurring_metric", field="charge_model") == dated
    percentages = combinations(["percentage", "graduated_percentage"], named("latest_agg"), EITHER, EITHER)
    assert refused("invalid_value", field="properties") == percentages


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"invoiceable": False}, [("invoiceable", "must_be_true_unless_pay_in_advance")]),
        ({"invoiceable": False, "pay_in_advance": True}, []),
        ({"invoiceable": False, "pay_in_advance": True, "regroup_paid_fees": "invoice"}, []),
        (
            {"pay_in_advance": True, "regroup_paid_fees": "invoice"},
            [("regroup_paid_fees", "only_compatible_with_pay_in_advance_and_non_invoiceable")],
        ),
        (
            {"invoiceable": False, "regroup_paid_fees": "invoice"},
            [
                ("invoiceable", "must_be_true_unless_pay_in_advance"),
                ("regroup_paid_fees", "only_compatible_with_pay_in_advance_and_non_invoiceable"),
            ],
        ),
        ({"min_amount_cents": 1}, []),
        (
            {"min_amount_cents": 1, "pay_in_advance": True},
            [("min_amount_cents", "not_compatible_with_pay_in_advance")],
        ),
        ({"min_amount_cents": 0, "pay_in_advance": True}, []),
    ],
)
def test_how_it_is_billed(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert incompatibilities(replace(CHARGE, **fields)) == expected


@pytest.mark.parametrize(
    ("own", "filtered", "is_lacking"),
    [
        ({"a": 1, "b": "x", "more": 2}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"b": 2}, True),
        ({"a": 1, "b": 2}, None, True),
        # What is no name or no value is told by another code.
        ("none", {"a": 1, "b": 2}, False),
    ],
)
def test_the_rules_of_a_metric_need_their_custom_properties(
    own: Any, filtered: Any, is_lacking: bool
) -> None:
    rules = {"total_units": "state.total_units + custom_properties.a", "amount": "custom_properties.b"}
    metric = replace(METRIC, aggregation=aggregations.CUSTOM, custom_aggregator=rules)
    entry = PlanFilter(
        id=ID,
        invoice_display_name=None,
        values={"model": ("a",)},
        properties={} if filtered is None else {"custom_properties": filtered},
    )
    charge = replace(CHARGE, metric=metric, properties={"custom_properties": own}, filters=(entry,))
    expected = [("properties", "missing_custom_properties")] if is_lacking else []
    assert incompatibilities(charge) == expected
    assert incompatibilities(replace(charge, metric=METRIC)) == []


def test_plans_are_compared_by_what_they_cost_in_a_year() -> None:
    intervals = {"weekly": 5_200, "monthly": 1_200, "quarterly": 400, "semiannual": 200, "yearly": 100}
    assert {each: yearly_amount_cents(replace(PLAN, interval=each)) for each in Interval} == intervals


def test_the_plan_that_is_sold() -> None:
    assert sold_plan_id(PLAN) == PLAN.id
    assert sold_plan_id(replace(PLAN, parent_id=UUID(int=9))) == UUID(int=9)


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"model": ("a", "b")}, {"model": ("a", "b")}),
        ({"model": ("a", "gone")}, {"model": ("a",)}),
        ({"model": ("gone",), "type": ("in",)}, {"type": ("in",)}),
        ({"model": ("gone",)}, None),
        ({"region": ("eu",), "type": ("in",)}, {"type": ("in",)}),
        ({"type": (ALL_FILTER_VALUES,)}, {"type": (ALL_FILTER_VALUES,)}),
        # A marker among other values is no marker, and no value that a metric lists.
        ({"type": (ALL_FILTER_VALUES, "in")}, {"type": ("in",)}),
        ({"region": (ALL_FILTER_VALUES,)}, None),
    ],
)
def test_filters_follow_the_values_of_their_metric(
    values: dict[str, tuple[str, ...]], left: dict[str, tuple[str, ...]] | None
) -> None:
    entry = PlanFilter(id=ID, invoice_display_name=None, values=values, properties={})
    trimmed = trim_filters(replace(CHARGE, filters=(entry,)))
    assert [kept.values for kept in trimmed.filters] == ([] if left is None else [left])
