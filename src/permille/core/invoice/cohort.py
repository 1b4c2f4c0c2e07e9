"""Cohorts: subscriptions that a run bills alike. What they share is planned once, by the first of them.

A cohort has one plan, instant, timezone and way of billing, and is billed up to the same instants. When a subscription
started says nothing any more once its first periods are over: its members may have started whenever they did.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import longest_period
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.invoice.billing import BillingRequest, SubscriptionBilling, plan_billing
from permille.core.metering.event import Arrival
from permille.core.period import BillingTime, local_date
from permille.core.record import Record, field

_ZONES = timedelta(days=3)
"""More than a move to another timezone shifts any bound of a period by."""


class Cohorts(Record):
    """The billings of a run, with the first of each cohort."""

    firsts: dict[Hashable, SubscriptionBilling] = field(default_factory=dict)

    def billing(
        self,
        request: BillingRequest,
        *,
        plan: Plan,
        customer: Customer,
        first_started_at: datetime | None,
        next_plan: Plan | None,
        arrival: Arrival | None,
    ) -> SubscriptionBilling:
        """What is due of a subscription, as `plan_billing` says."""
        key = cohort_key(request, plan, customer)
        first = self.firsts.get((key, arrival)) if key else None
        if first is not None:
            return first.like(request.subscription, customer)
        billing = plan_billing(
            request,
            plan=plan,
            customer=customer,
            first_started_at=first_started_at,
            next_plan=next_plan,
            arrival=arrival,
        )
        if key:
            self.firsts[key, arrival] = billing
        return billing


def cohort_key(request: BillingRequest, plan: Plan, customer: Customer) -> Hashable | None:
    """The same for subscriptions that are billed alike; None for one that is planned by itself."""
    row, at = request.subscription, request.at
    runs = row.status == "active" and row.terminated_at is None and row.next_billing_at == at
    if not (request.is_for_period and runs) or plan.trial_period:
        return None
    timezone = customer.applicable_timezone
    is_anniversary = row.billing_time == BillingTime.ANNIVERSARY
    return (
        at,
        row.plan_id,
        timezone,
        local_date(row.subscription_at, timezone) if is_anniversary else None,
        row.fee_billed_until,
        row.charges_billed_until,
        row.fixed_charges_billed_until,
        row.fixed_charges_paid_until,
        row.upgraded,
        row.trial_ended_at,
        *_start(row, plan, at, is_anniversary=is_anniversary),
    )


def _start(
    row: Subscription, plan: Plan, at: datetime, *, is_anniversary: bool
) -> tuple[datetime | bool | None, ...]:
    """What of its start decides what it is billed: nothing once two periods are over and billed up to some instant."""
    starts = row.started_at, row.created_at, row.previous_subscription_id is not None
    if row.started_at is None or row.charges_billed_until is None or (is_anniversary and plan.pay_in_advance):
        return starts
    settled_at = at - 2 * longest_period(plan.interval) - _ZONES
    return () if max(row.started_at, row.created_at) < settled_at else starts
