"""What an invoice bills a subscription for: why, as of which instant, and for which periods.

Source: semantics-billing.md sections 3.8 to 3.12.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import Subscription, facts_of
from permille.core.contract.timeline import (
    InvoicePlan,
    SubscriptionFacts,
    is_backdated,
    next_billing_at,
    plan_invoice,
    trial_end,
)
from permille.core.customer import Customer
from permille.core.metering.event import Arrival
from permille.core.once import OnceForAll
from permille.core.period import INSTANT, Period, charges_interval, period_containing, start_of_day
from permille.core.rating.commitment import CommittedPeriod
from permille.core.rating.fixed_charge import FixedPeriod
from permille.core.rating.proration import RatedPeriod, rated_period
from permille.core.record import Record, field, replace

_CLOCKS_DIFFER = timedelta(hours=27)
"""A customer's move to another timezone shifts the end of a period by less."""


class InvoicingReason(StrEnum):
    """Why a subscription is on an invoice."""

    PERIODIC = "subscription_periodic"
    STARTING = "subscription_starting"
    TERMINATING = "subscription_terminating"
    IN_ADVANCE = "in_advance_charge"
    IN_ADVANCE_PERIODIC = "in_advance_charge_periodic"
    PROGRESSIVE = "progressive_billing"
    """The period goes on."""
    LATE_USAGE = "late_usage"
    """Late usage alone, as the subscription has ended."""


class BillingRequest(Record, kw_only=True):
    """A subscription that is to be billed as of an instant."""

    subscription: Subscription
    at: datetime
    reason: InvoicingReason | None = None
    """None where the instant decides: a period's end or a trial's."""
    is_change: bool = False
    next_plan_id: UUID | None = None
    """The plan that takes over."""
    renews_at_start: bool = False
    """Whether it takes over where another plan's period ended: recurring units carried over are then paid in advance."""
    awaits_payment: bool = False
    """Whether the subscription only runs once this is paid."""
    group: int = 0
    """Requests of different groups go on different invoices, made in the order of the groups."""

    @property
    def is_for_period(self) -> bool:
        """Whether nothing but the instant made it due."""
        is_for_more = self.is_change or self.next_plan_id or self.renews_at_start or self.awaits_payment
        return self.reason is None and not (is_for_more or self.group)


def change_requests(
    ended: Subscription, started: Subscription, *, at: datetime, owes_at_start: bool
) -> list[BillingRequest]:
    """What a change of plan bills: what the old plan still owes, and what the new one costs from its start."""
    requests = [
        BillingRequest(
            subscription=ended, at=at, reason=InvoicingReason.TERMINATING, next_plan_id=started.plan_id
        )
    ]
    if owes_at_start or not ended.upgraded:
        requests.append(
            BillingRequest(
                subscription=started,
                at=at,
                reason=InvoicingReason.STARTING,
                is_change=True,
                renews_at_start=not ended.upgraded,
            )
        )
    return requests


class SubscriptionBilling(Record, kw_only=True):
    """A subscription on an invoice, with the periods that it is billed for."""

    subscription: Subscription
    plan: Plan
    customer: Customer
    facts: SubscriptionFacts
    """Those of the first of its cohort (cohort.py): they decide the same."""
    at: datetime
    """The instant that was due."""
    reason: InvoicingReason
    planned: InvoicePlan
    is_change: bool = False
    """Whether it is one side of a change of plan; both sides go on one invoice."""
    left_to_next_plan: frozenset[UUID] = frozenset()
    """The recurring metrics that the next plan bills at its period's end."""
    renews_at_start: bool = False
    """Whether it pays at its start for recurring units carried over from a plan that went to its period's end."""
    awaits_payment: bool = False
    """Whether the subscription only runs once this is paid."""
    group: int = 0
    """Billings of different groups go on different invoices."""
    arrival: Arrival | None = None
    """Which events its usage was read with."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What was computed of it that is the same in its cohort."""

    def like(self, row: Subscription, customer: Customer) -> SubscriptionBilling:
        """The billing of another subscription of its cohort."""
        return replace(self, subscription=row, customer=customer, planned=self.planned.of(row.id))

    @property
    def recurring(self) -> bool:
        """Whether a period's end made it due."""
        return self.reason is InvoicingReason.PERIODIC

    @property
    def usage_period(self) -> Period | None:
        """The period of usage that is billed in arrears."""
        return self.planned.periods.charges

    @OnceForAll
    def begun_period(self) -> Period | None:
        """The period for which recurring units carried over are paid in advance, None when none begins."""
        if self.recurring and self.usage_period:
            begins_at = self.usage_period.to
            return self.whole_period(Period(begins_at, begins_at + INSTANT))
        if self.renews_at_start:
            return Period(self.at, self.whole_period(Period(self.at, self.at + INSTANT)).to)
        return None

    def whole_period(self, period: Period) -> Period:
        """The whole billing period, of which only a part may be subscribed."""
        return period_containing(
            period.to - INSTANT,
            interval=charges_interval(self.facts.interval, self.facts.bill_charges_monthly),
            billing_time=self.facts.billing_time,
            anchor=self.facts.subscription_at,
            timezone=self.facts.timezone,
        )

    def fixed_period(self, part: Period) -> FixedPeriod:
        """A period of fixed charges in its whole one."""
        whole = period_containing(
            part.to - INSTANT,
            interval=charges_interval(self.facts.interval, self.facts.bill_fixed_charges_monthly),
            billing_time=self.facts.billing_time,
            anchor=self.facts.subscription_at,
            timezone=self.facts.timezone,
        )
        return FixedPeriod(whole=whole, part=part, timezone=self.facts.timezone)

    @OnceForAll
    def committed_period(self) -> CommittedPeriod | None:
        """The period of the plan that ends with the usage and fixed charges that are billed; None where none does.

        A plan that is paid in advance commits to nothing for a period that was all trial, or before it was entered.
        """
        usage, facts = self.usage_period or self.planned.periods.fixed_charges, self.facts
        if usage is None:
            return None
        whole = period_containing(
            usage.from_ + (usage.to - usage.from_) / 2,
            interval=facts.interval,
            billing_time=facts.billing_time,
            anchor=facts.subscription_at,
            timezone=facts.timezone,
        )
        ends, free_until = whole.to, trial_end(facts) if facts.pay_in_advance else None
        if free_until is not None and free_until >= whole.to:
            return None
        entered = start_of_day(facts.created_at, facts.timezone)
        if facts.pay_in_advance and is_backdated(facts) and whole.from_ < entered:
            return None  # the fee of that period isn't billed either
        if facts.terminated_at is not None and facts.terminated_at <= self.at:
            ends = min(facts.terminated_at + INSTANT, whole.to)
        elif whole.to - usage.to > _CLOCKS_DIFFER:
            return None
        begins = max(whole.from_, start_of_day(facts.started_at or whole.from_, facts.timezone))
        return CommittedPeriod(whole=whole, part=Period(min(begins, ends), ends))

    def rated(self, period: Period) -> RatedPeriod:
        """A period in its whole billing period, for rating."""
        found = self._rated.get(period)
        if found is None:
            found = self._rated[period] = rated_period(
                period,
                self.whole_period(period),
                self.facts.timezone,
                upgraded=self.facts.upgraded,
                terminated_at=self.facts.terminated_at,
            )
        return found

    @OnceForAll
    def _rated(self) -> dict[Period, RatedPeriod]:
        return {}

    @OnceForAll
    def billed_next_at(self) -> datetime:
        """When the subscription is due again, if it goes on."""
        return next_billing_at(self.facts, after=self.at)

    @property
    def invoice_key(self) -> tuple[Any, ...]:
        """Billings with equal keys go on one invoice (semantics-billing.md section 3.10)."""
        alone = None if self.subscription.consolidate_invoice else self.subscription.external_id
        currency, order = self.plan.amount_currency, self.subscription.purchase_order_number
        reason = "change" if self.is_change else self.reason
        return (
            self.at,
            self.group,
            self.customer.sequential_id,
            self.customer.billing_entity.code,
            currency,
            reason,
            str(alone or ""),
            order or "",
        )


def plan_billing(
    request: BillingRequest,
    *,
    plan: Plan,
    customer: Customer,
    first_started_at: datetime | None,
    next_plan: Plan | None,
    arrival: Arrival | None = None,
) -> SubscriptionBilling:
    """The periods and the plan's own fee that are due as of the instant of the request."""
    row, at = request.subscription, request.at
    facts = facts_of(row, plan, timezone=customer.applicable_timezone, first_started_at=first_started_at)
    # A start later today is billed now.
    begins = (row.started_at or at) if request.reason is InvoicingReason.STARTING else at
    planned = plan_invoice(facts, at=max(at, begins))
    ends_trial = planned.periods.none_ended and trial_end(facts) == at
    billing = SubscriptionBilling(
        subscription=row,
        plan=plan,
        customer=customer,
        facts=facts,
        at=at,
        reason=request.reason or (InvoicingReason.STARTING if ends_trial else InvoicingReason.PERIODIC),
        planned=planned,
        is_change=request.is_change or request.next_plan_id is not None,
        renews_at_start=request.renews_at_start,
        awaits_payment=request.awaits_payment,
        group=request.group,
        left_to_next_plan=left_to_next_plan(row, next_plan, at),
        arrival=arrival,
    )
    if billing.renews_at_start and planned.periods.subscription is None:
        shown = replace(planned.periods, subscription=billing.begun_period)
        return replace(billing, planned=replace(planned, periods=shown), shared={})
    return billing


def left_to_next_plan(row: Subscription, next_plan: Plan | None, at: datetime) -> frozenset[UUID]:
    """What an upgrade leaves to the new plan: recurring metrics that are priced there too, at its period's end."""
    if next_plan is None or not row.upgraded:
        return frozenset()
    return frozenset(
        charge.metric.id
        for charge in in_force(next_plan, at).charges
        if charge.metric.recurring and not charge.pay_in_advance
    )


def grouped(billings: Iterable[SubscriptionBilling]) -> list[tuple[SubscriptionBilling, ...]]:
    """The billings of each invoice, in the order in which the subscriptions were made."""
    together: dict[tuple[Any, ...], list[SubscriptionBilling]] = {}
    for billing in in_order(billings):
        together.setdefault(billing.invoice_key, []).append(billing)
    return [tuple(together[key]) for key in sorted(together)]


def in_order(billings: Iterable[SubscriptionBilling]) -> list[SubscriptionBilling]:
    """The billings in the order in which their subscriptions were made."""
    return sorted(billings, key=lambda each: (each.subscription.created_at, each.subscription.id))


class BillingProgress(Record, kw_only=True):
    """How far a subscription is billed, and when it is due again."""

    subscription_id: UUID
    next_billing_at: datetime | None
    fee_billed_until: datetime | None
    charges_billed_until: datetime | None
    fixed_charges_billed_until: datetime | None
    fixed_charges_paid_until: datetime | None
    trial_ended_at: datetime | None


def progress_after(billing: SubscriptionBilling) -> BillingProgress:
    """How far the subscription is billed once this billing is on an invoice."""
    row = billing.subscription
    next_at = row.next_billing_at
    if billing.reason is not InvoicingReason.TERMINATING and next_at is not None and next_at <= billing.at:
        next_at = billing.billed_next_at
    trial_ended_at = row.trial_ended_at
    if billing.plan.trial_period and trial_ended_at is None:
        ends = trial_end(billing.facts)
        trial_ended_at = ends if ends is not None and ends <= billing.at else None
    return BillingProgress(
        subscription_id=row.id,
        next_billing_at=next_at,
        fee_billed_until=billing.planned.fee_billed_until,
        charges_billed_until=billing.planned.charges_billed_until,
        fixed_charges_billed_until=billing.planned.fixed_charges_billed_until,
        fixed_charges_paid_until=billing.planned.fixed_charges_paid_until,
        trial_ended_at=trial_ended_at,
    )
