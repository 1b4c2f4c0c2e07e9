"""What does not go together in a charge, and filters that follow their metric."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from permille.core.billable_metric import BillableMetric
from permille.core.filters import ALL_FILTER_VALUES
from permille.core.plan import Charge, PlanFilter, incompatibilities, trim_filters

NOW = datetime(2024, 3, 5, tzinfo=UTC)
ID = UUID(int=1)
METRIC = BillableMetric(
    id=ID,
    organization_id=ID,
    name="m",
    code="m",
    description=None,
    aggregation_type="sum_agg",
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
    charge_model="standard",
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
IN_ADVANCE = {"pay_in_advance": True}
PRORATED = {"prorated": True}


@pytest.mark.parametrize(
    ("metric", "fields", "expected"),
    [
        ({}, {}, []),
        ({}, IN_ADVANCE, []),
        ({}, IN_ADVANCE | {"charge_model": "volume"}, ["pay_in_advance"]),
        ({"aggregation_type": "max_agg"}, IN_ADVANCE, ["pay_in_advance"]),
        ({"aggregation_type": "latest_agg"}, IN_ADVANCE, ["pay_in_advance"]),
        ({}, PRORATED, ["prorated"]),
        ({"recurring": True}, PRORATED, []),
        ({"recurring": True}, PRORATED | {"charge_model": "package"}, ["prorated"]),
        ({"recurring": True}, PRORATED | {"charge_model": "graduated"}, []),
        ({"recurring": True}, PRORATED | IN_ADVANCE | {"charge_model": "graduated"}, ["prorated"]),
        ({"recurring": True, "aggregation_type": "weighted_sum_agg"}, PRORATED, ["prorated"]),
        ({"aggregation_type": "count_agg"}, {"charge_model": "dynamic"}, ["charge_model"]),
        ({}, {"charge_model": "custom"}, ["charge_model"]),
        ({"aggregation_type": "latest_agg"}, {"charge_model": "percentage"}, ["properties"]),
        ({}, {"invoiceable": False}, ["invoiceable"]),
        ({}, IN_ADVANCE | {"invoiceable": False, "regroup_paid_fees": "invoice"}, []),
        ({}, IN_ADVANCE | {"regroup_paid_fees": "invoice"}, ["regroup_paid_fees"]),
        ({}, IN_ADVANCE | {"min_amount_cents": 1}, ["min_amount_cents"]),
    ],
)
def test_what_does_not_go_together(metric, fields, expected):
    charge = replace(CHARGE, metric=replace(METRIC, **metric), **fields)
    assert [field for field, _ in incompatibilities(charge)] == expected


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"model": ("a", "b")}, {"model": ("a", "b")}),
        ({"model": ("a", "gone")}, {"model": ("a",)}),
        ({"model": ("gone",), "type": ("in",)}, {"type": ("in",)}),
        ({"model": ("gone",)}, None),
        ({"region": ("eu",), "type": ("in",)}, {"type": ("in",)}),
        ({"type": (ALL_FILTER_VALUES,)}, {"type": (ALL_FILTER_VALUES,)}),
        ({"region": (ALL_FILTER_VALUES,)}, None),
    ],
)
def test_filters_follow_the_values_of_their_metric(values, left):
    entry = PlanFilter(id=ID, invoice_display_name=None, values=values, properties={})
    trimmed = trim_filters(replace(CHARGE, filters=(entry,)))
    assert [kept.values for kept in trimmed.filters] == ([] if left is None else [left])
