"""Plans: a subscription fee and charges, and the price changes that are scheduled for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    Currency,
    Description,
    DisplayName,
    Id,
    Input,
    Metadata,
    Name,
    Number,
    UpdatedAt,
    instant_of,
    one_of,
    says,
)
from permille.api.objects.charge import Charge, ChargeInput
from permille.api.objects.feature import PlanEntitlement
from permille.api.objects.fixed_charge import FixedCharge, FixedChargeInput
from permille.api.objects.tax import Tax
from permille.api.objects.threshold import ApplicableUsageThreshold, UsageThreshold, UsageThresholdInput
from permille.core.period import Interval

Uncounted = Annotated[int, says("Always 0: kept for clients of Lago's API.")]


class ScheduledChange(Answer):
    """Prices that apply to the periods that begin from an instant on."""

    lago_id: Id
    effective_at: Annotated[str, instant_of("Periods that begin from then on have these prices.")]
    amount_cents: Annotated[int, says("The subscription fee from then on.")]
    charges: Annotated[list[Charge], says("All charges from then on.")]


class MinimumCommitment(Answer):
    """What an interval of a plan comes to at least: what its fees lack of it is billed."""

    lago_id: Id
    plan_code: Annotated[str, says("Code of the plan.")]
    invoice_display_name: DisplayName
    interval: Annotated[str, one_of(*Interval, says="The plan's interval.")]
    amount_cents: Annotated[int, says("For a whole interval, in the currency's smallest unit.")]
    created_at: CreatedAt
    updated_at: UpdatedAt
    taxes: Annotated[list[Tax], says("Taxes of its fees; without any, the plan's apply.")]


class MinimumCommitmentInput(Input):
    """A minimum commitment. An empty object takes it away."""

    amount_cents: Annotated[int, says("For a whole interval, in the smallest unit: more than 0.")]
    invoice_display_name: DisplayName
    tax_codes: Annotated[list[str], says("Codes of the taxes of its fees.")]


class Plan(Answer, kw_only=True):
    """What a subscription costs: a fee for each interval, and charges for usage."""

    lago_id: Id
    name: Name
    invoice_display_name: DisplayName
    created_at: CreatedAt
    code: Code
    interval: Annotated[str, one_of(*Interval, says="How often it is billed.")]
    description: Description
    amount_cents: Annotated[int, says("Subscription fee of one interval, in the currency's smallest unit.")]
    amount_currency: Currency
    trial_period: Annotated[
        Number | None, says("Days at the start that the subscription fee is not billed for.")
    ]
    pay_in_advance: Annotated[
        bool, says("Whether the subscription fee is billed at the start of the interval.")
    ]
    bill_charges_monthly: Annotated[
        bool | None, says("Whether charges of a yearly or half-yearly plan are billed each month.")
    ]
    bill_fixed_charges_monthly: Annotated[
        bool | None, says("Whether fixed charges of a yearly or half-yearly plan are billed each month.")
    ]
    customers_count: Uncounted
    active_subscriptions_count: Uncounted
    draft_invoices_count: Uncounted
    parent_id: Annotated[UUID | None, says("The plan that this one, of a single subscription, is a copy of.")]
    pending_deletion: Annotated[bool, says("True in the answer to its deletion.")]
    charges: Annotated[list[Charge], says("Charges in force.")]
    scheduled_changes: Annotated[list[ScheduledChange], says("Price changes to come.")]
    fixed_charges: Annotated[
        list[FixedCharge] | UnsetType, says("Quantities in every period; left out in webhooks.")
    ] = UNSET
    entitlements: Annotated[list[PlanEntitlement], says("Features that it grants.")]
    usage_thresholds: Annotated[
        list[UsageThreshold], says("Amounts of lifetime usage at which an invoice is made.")
    ]
    applicable_usage_thresholds: Annotated[
        list[ApplicableUsageThreshold], says("Its own, without any those of the plan that it is a copy of.")
    ]
    minimum_commitment: Annotated[
        MinimumCommitment | None, says("What an interval comes to at least; null without one.")
    ]
    taxes: Annotated[list[Tax], says("Taxes of its fees; without any, the customer's apply.")]
    metadata: Annotated[
        Mapping[str, Any] | UnsetType, says("Your notes, texts by name; left out without any.")
    ] = UNSET


class PlanOverrides(Input):
    """What differs from the plan for one subscription."""

    name: Name
    invoice_display_name: DisplayName
    description: Description
    amount_cents: Annotated[int, says("Subscription fee of one interval, in the smallest unit.")]
    amount_currency: Currency
    trial_period: Annotated[float | None, says("Days at the start without a subscription fee.")]
    charges: Annotated[list[ChargeInput], says("Charges that differ, by id.")]
    fixed_charges: Annotated[
        list[FixedChargeInput],
        says("Fixed charges that differ, by id. Units alone need no plan of the subscription's own."),
    ]
    minimum_commitment: Annotated[MinimumCommitmentInput | None, says("What an interval comes to at least.")]
    usage_thresholds: Annotated[
        list[UsageThresholdInput], says("Amounts of lifetime usage at which an invoice is made; all of them.")
    ]
    tax_codes: Annotated[list[str], says("Codes of the taxes of its fees.")]
    metadata: Metadata


class PlanInput(PlanOverrides):
    """Fields of a plan. Once somebody is subscribed code, interval, currency and terms stay as they are."""

    code: Code
    interval: Annotated[str, one_of(*Interval, says="How often it is billed.")]
    pay_in_advance: Annotated[bool, says("Whether the subscription fee is billed at the start.")]
    bill_charges_monthly: Annotated[
        bool | None, says("Whether charges of a yearly or half-yearly plan are billed each month.")
    ]
    bill_fixed_charges_monthly: Annotated[
        bool | None, says("Whether fixed charges of a yearly or half-yearly plan are billed each month.")
    ]
    charges: Annotated[list[ChargeInput], says("All charges: those with an id are changed, others are new.")]
    fixed_charges: Annotated[
        list[FixedChargeInput], says("All fixed charges: those with an id are changed, others are new.")
    ]
    cascade_updates: Annotated[bool, says("Whether plans of single subscriptions follow.")]
