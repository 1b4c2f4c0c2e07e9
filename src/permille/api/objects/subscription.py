"""Subscriptions: a customer on a plan."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    ExternalCustomerId,
    ExternalSubscriptionId,
    Id,
    Input,
    instant_of,
    one_of,
    says,
)
from permille.api.objects.custom_section import ChosenSections, SectionChoice
from permille.api.objects.customer import Customer
from permille.api.objects.feature import SubscriptionEntitlement
from permille.api.objects.plan import Plan, PlanOverrides
from permille.api.objects.threshold import ApplicableUsageThreshold, UsageThreshold, UsageThresholdInput
from permille.core.contract.activation import RuleStatus
from permille.core.period import BillingTime

STATUSES = ("pending", "active", "terminated", "canceled", "incomplete")
CREDIT_NOTES = ("credit", "refund", "offset", "skip")
INVOICES = ("generate", "skip")


class PaymentMethod(Answer):
    """How the subscription is paid."""

    payment_method_id: Annotated[str | None, says("Always null: payment providers aren't built yet.")]
    payment_method_type: Annotated[str, says("Always provider.")]


class ActivationRule(Answer):
    """What has to happen before a subscription runs."""

    lago_id: Id
    type: Annotated[str, one_of("payment", says="That its first invoice is paid.")]
    timeout_hours: Annotated[int, says("For how long it waits; 0 for as long as it takes.")]
    status: Annotated[str, one_of(*RuleStatus, says="What became of it.")]
    expires_at: Annotated[str | None, instant_of("When the subscription is canceled, unless it is paid.")]
    lago_invoice_id: Annotated[
        UUID | None, says("The invoice to pay, with POST /payments; it is not shown before it is paid.")
    ]
    created_at: CreatedAt
    updated_at: Annotated[str, instant_of("When it changed last.")]


class ActivationRuleInput(Input):
    """What has to happen before a subscription runs."""

    type: Annotated[str, one_of("payment", says="That its first invoice is paid.")]
    timeout_hours: Annotated[int, says("For how long it waits; 0, the default, for as long as it takes.")]


class Subscription(Answer, kw_only=True):
    """A customer on a plan. A change of plan ends one and starts another with the same external_id."""

    lago_id: Id
    external_id: ExternalSubscriptionId
    lago_customer_id: Annotated[UUID, says("The customer.")]
    external_customer_id: ExternalCustomerId
    billing_entity_code: Annotated[str, says("Code of the billing entity that invoices it.")]
    name: Annotated[str | None, says("Name on invoices.")]
    plan_code: Annotated[str, says("Code of the plan.")]
    plan_amount_cents: Annotated[int, says("The plan's subscription fee of one interval.")]
    plan_amount_currency: Currency
    status: Annotated[str, one_of(*STATUSES, says="Whether it is running.")]
    billing_time: Annotated[
        str,
        one_of(*BillingTime, says="Whether periods follow the calendar or begin on the day of the start."),
    ]
    subscription_at: Annotated[str, instant_of("Start that was asked for.")]
    started_at: Annotated[str | None, instant_of("When it started, to the millisecond.")]
    activated_at: Annotated[str | None, instant_of("When it became active.")]
    trial_ended_at: Annotated[str | None, instant_of("When its trial ended.")]
    ending_at: Annotated[str | None, instant_of("When it will end.")]
    terminated_at: Annotated[str | None, instant_of("When it ended.")]
    canceled_at: Annotated[str | None, instant_of("When it was canceled before its start.")]
    created_at: CreatedAt
    previous_plan_code: Annotated[str | None, says("Code of the plan before a change of plan.")]
    next_plan_code: Annotated[str | None, says("Code of the plan that follows at the end of the period.")]
    downgrade_plan_date: Annotated[date | None, says("Day on which the next plan takes over.")]
    current_billing_period_started_at: Annotated[str | None, instant_of("Start of the running period.")]
    current_billing_period_ending_at: Annotated[str | None, instant_of("Last second of the running period.")]
    on_termination_credit_note: Annotated[
        str | None,
        one_of(*CREDIT_NOTES, None, says="What becomes of a fee paid in advance when it ends early."),
    ]
    on_termination_invoice: Annotated[
        str, one_of(*INVOICES, says="Whether usage that isn't billed yet is invoiced when it ends.")
    ]
    progressive_billing_disabled: Annotated[bool, says("Whether its usage thresholds make no invoices.")]
    consolidate_invoice: Annotated[bool, says("Whether it shares invoices with the customer's others.")]
    purchase_order_number: Annotated[str | None, says("The customer's order number, printed on invoices.")]
    cancellation_reason: Annotated[
        str | None,
        one_of("payment_failed", "timeout", None, says="Why it never ran, where it waited for its payment."),
    ]
    payment_method: Annotated[PaymentMethod, says("How it is paid.")]
    entitlements: Annotated[list[SubscriptionEntitlement], says("Features that it has.")]
    usage_threshold: Annotated[
        UsageThreshold | None, says("The threshold that was reached, in the webhook that says so; else null.")
    ]
    applicable_usage_thresholds: Annotated[
        list[ApplicableUsageThreshold], says("Its usage thresholds: its own, without any its plan's.")
    ]
    applied_invoice_custom_sections: ChosenSections
    activation_rules: Annotated[
        list[ActivationRule], says("What has to happen, or had to, before it runs; one rule at most.")
    ]
    plan: Annotated[Plan | UnsetType, says("The plan; left out in lists and on invoices.")] = UNSET
    customer: Annotated[Customer | UnsetType, says("The customer; only in webhooks.")] = UNSET


class SubscriptionUpdate(Input):
    """Fields of a subscription that can change."""

    name: Annotated[str | None, says("Name on invoices.")]
    subscription_at: Annotated[str, instant_of("Start; until it has started.")]
    ending_at: Annotated[str | None, instant_of("When it ends by itself.")]
    on_termination_credit_note: Annotated[
        str | None, one_of("credit", "refund", "skip", None, says="What becomes of a fee paid in advance.")
    ]
    on_termination_invoice: Annotated[
        str, one_of(*INVOICES, says="Whether usage that isn't billed yet is invoiced when it ends.")
    ]
    progressive_billing_disabled: Annotated[bool, says("Whether its usage thresholds make no invoices.")]
    consolidate_invoice: Annotated[bool, says("Whether it shares invoices with the customer's others.")]
    purchase_order_number: Annotated[str | None, says("The customer's order number, printed on invoices.")]
    usage_thresholds: Annotated[
        list[UsageThresholdInput], says("Thresholds of its own instead of its plan's; all of them.")
    ]
    plan_overrides: Annotated[PlanOverrides, says("What differs from the plan.")]
    billing_entity_code: Annotated[
        str | None,
        says("Code of the billing entity whose invoices it is on from now on; null: its customer's."),
    ]
    invoice_custom_section: SectionChoice
    activation_rules: Annotated[
        list[ActivationRuleInput], says("What has to happen before it runs; until it has started.")
    ]


class SubscriptionInput(SubscriptionUpdate):
    """A new subscription. With the external_id of a running one and another plan it is a change of plan."""

    external_id: ExternalSubscriptionId
    external_customer_id: ExternalCustomerId
    plan_code: Annotated[str, says("Code of the plan.", example="pro")]
    billing_time: Annotated[
        str,
        one_of(*BillingTime, says="Whether periods follow the calendar or begin on the day of the start."),
    ]
    payment_method: Annotated[dict[str, Any], says("Only payment_method_type provider.")]


class PreviewedSubscriptions(Input):
    """Running subscriptions that an invoice is previewed for."""

    external_ids: Annotated[list[str], says("Their external ids, of one customer.")]
    terminated_at: Annotated[str, instant_of("When they would end.")]
    plan_code: Annotated[str, says("Plan that a single one would change to.")]
