"""The plan: a subscription fee per interval, and charges that price metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any
from uuid import UUID

from permille.core.bounds import PLAN_PRICES_KEPT_MAX, PLAN_PRICES_MAX
from permille.core.contract.commitment import MinimumCommitment
from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.threshold import UsageThreshold
from permille.core.llm.catalogue.prices import PriceSource
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import aggregator_of, custom_values
from permille.core.period import Interval
from permille.core.rating.filters import ALL_FILTER_VALUES, ChargeFilter, best_match, expand_all_values
from permille.core.rating.models import ChargeModel, Model, custom, model_of
from permille.core.rating.pricing_unit import AppliedPricingUnit
from permille.core.rating.rounding import Rounding
from permille.core.rating.unlisted import UnlistedValues, is_unpriced
from permille.core.record import Record, names_of, replace
from permille.core.tax import Tax


class PlanFilter(Record, kw_only=True):
    """The price of one combination of dimension values, as stored: `values` keeps __ALL_FILTER_VALUES__."""

    id: UUID
    invoice_display_name: str | None
    values: Mapping[str, tuple[str, ...]]
    properties: Mapping[str, Any]


class Charge(Record, kw_only=True):
    """A price attached to a plan's metric. Amounts inside `properties` are decimal texts in major units.

    They are amounts in the plan's currency or, like `min_amount_cents`, in the charge's own pricing unit.
    """

    id: UUID
    plan_id: UUID
    parent_id: UUID | None
    metric: BillableMetric
    code: str
    invoice_display_name: str | None
    charge_model: ChargeModel
    pay_in_advance: bool
    prorated: bool
    invoiceable: bool
    regroup_paid_fees: str | None
    min_amount_cents: int
    accepts_target_wallet: bool
    properties: Mapping[str, Any]
    filters: tuple[PlanFilter, ...]
    created_at: datetime
    taxes: tuple[Tax, ...] = ()
    applied_pricing_unit: AppliedPricingUnit | None = None
    unlisted_values: UnlistedValues = UnlistedValues.FREE
    rounding: Rounding = Rounding.PER_FEE
    """Whether each of its fees is rounded to cents by itself, or all of them together."""
    catalogue: PriceSource | None = None
    """The prices of a charge of the catalogue model; charges are equal without them."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charge) and _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash(self.id)


_compared = attrgetter(*(name for name in names_of(Charge) if name != "catalogue"))

FieldOf = tuple[UUID | None, str]
"""The name of a field, with the id of the charge or the filter that has it; None for the plan."""


class PriceVersion(Record, kw_only=True):
    """The fee and the charges of a plan as they price periods that begin before `valid_until`, None for the last."""

    id: UUID
    valid_until: datetime | None
    amount_cents: int
    charges: tuple[Charge, ...]
    said: frozenset[FieldOf] = frozenset()
    """What the change at its end says although it may be so before; all that it makes different it says too."""


class Plan(Record, kw_only=True):
    """`amount_cents` is the subscription fee for one `interval`; `trial_period` is in days."""

    id: UUID
    organization_id: UUID
    parent_id: UUID | None
    code: str
    name: str
    invoice_display_name: str | None
    description: str | None
    interval: Interval
    amount_cents: int
    amount_currency: str
    pay_in_advance: bool
    trial_period: Decimal | None
    bill_charges_monthly: bool | None
    bill_fixed_charges_monthly: bool | None
    metadata: Mapping[str, Any] | None
    charges: tuple[Charge, ...]
    created_at: datetime
    taxes: tuple[Tax, ...] = ()
    price_versions: tuple[PriceVersion, ...] = ()
    """In their order, of which `charges` are one; empty where the prices are the same for every period."""
    fixed_charges: tuple[FixedCharge, ...] = ()
    minimum_commitment: MinimumCommitment | None = None
    usage_thresholds: tuple[UsageThreshold, ...] = ()
    inherited_thresholds: tuple[UsageThreshold, ...] = ()
    """Those of the plan that it is a copy of."""

    @property
    def applicable_thresholds(self) -> tuple[UsageThreshold, ...]:
        """Its own usage thresholds, without any those of the plan that it is a copy of."""
        return self.usage_thresholds or self.inherited_thresholds


def sold_plan_id(plan: Plan) -> UUID:
    """The plan that is in the catalogue: of a copy for one subscription, what it is a copy of."""
    return plan.parent_id or plan.id


def is_too_large(plan: Plan, before: Plan | None = None) -> bool:
    """Whether the plan has more prices than it may, and more than it had before."""
    own, kept = _sizes(plan)
    known_own, known_kept = _sizes(before) if before is not None else (0, 0)
    return own > max(PLAN_PRICES_MAX, known_own) or kept > max(PLAN_PRICES_KEPT_MAX, known_kept)


def _sizes(plan: Plan) -> tuple[int, int]:
    """Charges and filters of the plan, without and with those of its earlier and later prices."""
    own, *others = [
        sum(1 + len(charge.filters) for charge in charges)
        for charges in (plan.charges, *(version.charges for version in plan.price_versions))
    ]
    return own, own + sum(others)


def filter_name(entry: PlanFilter) -> str:
    """What a filter is called: its own name, or its values."""
    return entry.invoice_display_name or ", ".join(
        value for listed in entry.values.values() for value in listed
    )


def expanded_filters(charge: Charge) -> list[ChargeFilter]:
    """The charge's filters as events are matched with them: the values written out."""
    return [
        ChargeFilter(
            each.id,
            expand_all_values(each.values, charge.metric.filters),
            each.invoice_display_name,
            each.properties,
        )
        for each in charge.filters
    ]


def leaves_unpriced(charge: Charge) -> bool:
    """Whether usage that none of the charge's filters lists has no price."""
    choice, model = charge.unlisted_values, charge.charge_model
    return bool(charge.filters) and is_unpriced(choice, model, charge.properties)


def charges_on(plan: Plan, metric: BillableMetric) -> list[Charge]:
    """The plan's charges that price the metric."""
    return [charge for charge in plan.charges if charge.metric.id == metric.id]


def matching_filter(charge: Charge, dimensions: Mapping[str, str | None]) -> PlanFilter | None:
    """The filter that prices an event with these values of the dimensions, None for the charge's own price."""
    found = best_match(dimensions, expanded_filters(charge))
    return next((each for each in charge.filters if each.id == found.id), None) if found else None


_TIMES_A_YEAR = {
    Interval.YEARLY: 1,
    Interval.SEMIANNUAL: 2,
    Interval.QUARTERLY: 4,
    Interval.MONTHLY: 12,
    Interval.WEEKLY: 52,
}


def yearly_amount_cents(plan: Plan) -> int:
    """What the plan's own fee comes to in a year: by it a change of plan is an upgrade or a downgrade."""
    return plan.amount_cents * _TIMES_A_YEAR[plan.interval]


def trim_filters(charge: Charge) -> Charge:
    """The charge without the filter values that its metric does not list any more.

    A key left without values goes, and so does a filter left without keys (semantics-metering.md 2.1).
    """
    kept = []
    for entry in charge.filters:
        values = {key: _listed(charge.metric, key, listed) for key, listed in entry.values.items()}
        values = {key: listed for key, listed in values.items() if listed}
        if values:
            kept.append(replace(entry, values=values))
    return replace(charge, filters=tuple(kept))


def _listed(metric: BillableMetric, key: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if key in metric.filters and values == (ALL_FILTER_VALUES,):
        return values
    return tuple(value for value in values if value in metric.filters.get(key, ()))


def incompatibilities(charge: Charge) -> list[tuple[str, str]]:
    """What does not go together in a charge, as (field, code) (semantics-metering.md section 5.1)."""
    model, in_advance = model_of(charge.charge_model), charge.pay_in_advance
    aggregation = charge.metric.aggregation
    rules = [
        (
            in_advance and not (model.in_advance and aggregation.can_be_paid_in_advance),
            ("pay_in_advance", "invalid_aggregation_type_or_charge_model"),
        ),
        (
            charge.prorated and not _can_be_prorated(charge, model),
            ("prorated", "invalid_billable_metric_or_charge_model"),
        ),
        (
            model.needs is not None and aggregation is not model.needs,
            ("charge_model", "invalid_aggregation_type_or_charge_model"),
        ),
        (
            model.dated_by is not None and charge.metric.recurring,
            ("charge_model", "not_compatible_with_recurring_metric"),
        ),
        (aggregation is model.refuses, ("properties", "invalid_value")),
        (_lacks_custom_properties(charge), ("properties", "missing_custom_properties")),
        (
            not charge.invoiceable and not in_advance,
            ("invoiceable", "must_be_true_unless_pay_in_advance"),
        ),
        (
            charge.regroup_paid_fees is not None and (charge.invoiceable or not in_advance),
            ("regroup_paid_fees", "only_compatible_with_pay_in_advance_and_non_invoiceable"),
        ),
        (
            charge.unlisted_values == UnlistedValues.HELD
            and in_advance
            and not charge.invoiceable
            and charge.metric.recurring,
            ("unlisted_values", "held_needs_an_invoice"),
        ),
        (
            charge.min_amount_cents > 0 and in_advance,
            ("min_amount_cents", "not_compatible_with_pay_in_advance"),
        ),
    ]
    return [problem for broken, problem in rules if broken]


def _can_be_prorated(charge: Charge, model: Model) -> bool:
    if not charge.metric.recurring or not charge.metric.aggregation.can_be_prorated:
        return False
    return model.prorated_in_advance if charge.pay_in_advance else model.prorated


def _lacks_custom_properties(charge: Charge) -> bool:
    """Whether the metric's own rules look at a property that the charge or one of its filters doesn't have."""
    aggregator = aggregator_of(charge.metric)
    if aggregator is None:
        return False
    priced = [charge.properties, *(each.properties for each in charge.filters)]
    return any(
        not aggregator.custom_properties <= custom_values(each).keys()
        for each in priced
        if not custom.errors(each)
    )
