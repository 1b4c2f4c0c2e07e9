"""The subscription: a customer on a plan, when it starts, and what is due for it and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import latest, versions_of
from permille.core.contract.threshold import UsageThreshold, thresholds_of_json
from permille.core.contract.timeline import SubscriptionFacts, next_billing_at, trial_end
from permille.core.period import (
    INSTANT,
    BillingTime,
    Period,
    charges_interval,
    local_date,
    midnight,
    period_containing,
    start_of_day,
)
from permille.core.record import Record, replace


class Start(StrEnum):
    """On which side of the customer's today a subscription starts; the time of the day does not count."""

    PAST = "past"
    TODAY = "today"
    FUTURE = "future"


class Subscription(Record, kw_only=True):
    """One row of an external_id's history. `status`: pending, incomplete, active, terminated or canceled.

    next_billing_at, activates_at and ends_at say what is due and when; the ..._until (exclusive ends) say what is
    billed already.
    """

    id: UUID
    organization_id: UUID
    customer_id: UUID
    plan_id: UUID
    previous_subscription_id: UUID | None
    external_id: str
    name: str | None
    status: str
    billing_time: str
    subscription_at: datetime
    started_at: datetime | None
    activated_at: datetime | None
    trial_ended_at: datetime | None
    ending_at: datetime | None
    terminated_at: datetime | None
    canceled_at: datetime | None
    on_termination_credit_note: str | None
    on_termination_invoice: str
    consolidate_invoice: bool
    purchase_order_number: str | None
    progressive_billing_disabled: bool
    created_at: datetime
    updated_at: datetime
    next_billing_at: datetime | None
    activates_at: datetime | None
    ends_at: datetime | None
    fee_billed_until: datetime | None
    charges_billed_until: datetime | None
    fixed_charges_billed_until: datetime | None = None
    fixed_charges_paid_until: datetime | None = None
    upgraded: bool = False
    """Whether another plan took over at terminated_at, inside of its period: a dearer one, or one that was paid then."""
    historical_usage_amount_cents: int = 0
    """What was used before we knew of it; on the first row of a life alone, see life_of."""
    cancellation_reason: str | None = None
    """Why it never ran, of one that waited for its payment."""
    usage_thresholds: Sequence[Mapping[str, Any]] = ()
    """Thresholds of its own, as they are kept; see `thresholds_on`."""
    billing_entity_id: UUID | None = None
    """Who issues its invoices; None: the billing entity of its customer."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is to start on a future day; a downgrade that waits for a period's end is not."""
        return self.status == "pending" and self.previous_subscription_id is None


def thresholds_on(row: Subscription, plan: Plan) -> tuple[UsageThreshold, ...]:
    """The usage thresholds that apply to a subscription: its own, without any those of its plan."""
    return thresholds_of_json(row.usage_thresholds) or plan.applicable_thresholds


class Run(NamedTuple):
    """From when to when a row of an external id's history runs."""

    started_at: datetime | None
    terminated_at: datetime | None


Row = TypeVar("Row", Subscription, Run)


def running_at(history: Iterable[Row], at: datetime) -> Row | None:
    """The row of an external id's history that takes the events of that time."""
    for row in history:
        is_over = row.terminated_at is not None and at >= row.terminated_at
        if row.started_at is not None and row.started_at <= at and not is_over:
            return row
    return None


class Due(Record, kw_only=True):
    """What is due for a subscription, as UTC instants of the customer's midnights; null when nothing is."""

    next_billing_at: datetime | None
    activates_at: datetime | None
    ends_at: datetime | None
    end_alert_at: datetime | None = None
    """When the end is announced next."""


END_ALERT_DAYS = (45, 15)
"""So many days before its last one the end of a subscription is announced."""


def next_end_alert(ending_at: datetime | None, *, timezone: str, after: datetime) -> datetime | None:
    """The first instant after `after` at which an end is announced: a midnight."""
    if ending_at is None:
        return None
    last = local_date(ending_at, timezone)
    found = (midnight(last - timedelta(days=days), timezone) for days in END_ALERT_DAYS)
    return min((at for at in found if at > after), default=None)


def life_of(row: Subscription, rows: Iterable[Subscription]) -> list[Subscription]:
    """The rows of the external id that are one life with this one, oldest first.

    A change of plan goes on with it: the new row has the same subscription_at. What is subscribed again after an
    end begins another one. Source: semantics-billing.md section 6.6.
    """
    return sorted(
        (
            each
            for each in rows
            if each.id == row.id
            or (
                each.status != "canceled"
                and (each.customer_id, each.subscription_at) == (row.customer_id, row.subscription_at)
            )
        ),
        key=lambda each: (each.created_at, each.id),
    )


def start_of(subscription_at: datetime, *, now: datetime, timezone: str) -> Start:
    """Whether a subscription starts before, on or after the customer's today (semantics-billing.md 3.2)."""
    wanted, today = local_date(subscription_at, timezone), local_date(now, timezone)
    if wanted == today:
        return Start.TODAY
    return Start.PAST if wanted < today else Start.FUTURE


def as_unbilled(row: Subscription) -> Subscription:
    """The subscription as if nothing of it were billed yet."""
    return replace(
        row,
        fee_billed_until=None,
        charges_billed_until=None,
        fixed_charges_billed_until=None,
        fixed_charges_paid_until=None,
    )


def facts_of(
    subscription: Subscription, plan: Plan, *, timezone: str, first_started_at: datetime | None
) -> SubscriptionFacts:
    """What core.invoice plans with. `first_started_at` is the first start of the external id; trials count from it."""
    return SubscriptionFacts(
        subscription_id=subscription.id,
        status=subscription.status,
        subscription_at=subscription.subscription_at,
        started_at=subscription.started_at,
        created_at=subscription.created_at,
        terminated_at=subscription.terminated_at,
        upgraded=subscription.upgraded,
        replaces_previous=subscription.previous_subscription_id is not None,
        initial_started_at=first_started_at,
        timezone=timezone,
        billing_time=BillingTime(subscription.billing_time),
        interval=plan.interval,
        bill_charges_monthly=bool(plan.bill_charges_monthly),
        pay_in_advance=plan.pay_in_advance,
        amount_cents=latest(plan).amount_cents,
        earlier_amounts=tuple(
            (each.valid_until, each.amount_cents) for each in versions_of(plan) if each.valid_until
        ),
        currency=plan.amount_currency,
        trial_period=plan.trial_period,
        invoice_display_name=plan.invoice_display_name,
        fee_billed_until=subscription.fee_billed_until,
        charges_billed_until=subscription.charges_billed_until,
        has_charges=any(version.charges for version in versions_of(plan)),
        has_fixed_charges=bool(plan.fixed_charges),
        bill_fixed_charges_monthly=bool(plan.bill_fixed_charges_monthly),
        fixed_charges_billed_until=subscription.fixed_charges_billed_until,
        fixed_charges_paid_until=subscription.fixed_charges_paid_until,
    )


def due(
    subscription: Subscription,
    plan: Plan,
    *,
    timezone: str,
    now: datetime,
    first_started_at: datetime | None = None,
    takes_over_at: datetime | None = None,
) -> Due:
    """What is due, computed again: at a start, and when the customer's timezone has changed.

    The next billing is the first boundary from today on that is after the day of the start and is not
    billed yet: a subscription entered on a billing day is billed on that day, as in Lago. A trial counts from
    `first_started_at`, the first start of the external id, by default this one's. `takes_over_at` is for a
    downgrade that waits: the end of what it follows.
    """
    if subscription.is_waiting:
        starts_at = start_of_day(subscription.subscription_at, timezone)
        return Due(next_billing_at=None, activates_at=starts_at, ends_at=None)
    if subscription.status == "pending":
        return Due(next_billing_at=None, activates_at=takes_over_at, ends_at=None)
    if subscription.status != "active" or subscription.started_at is None:
        return Due(next_billing_at=None, activates_at=None, ends_at=None)
    after = max(start_of_day(now, timezone) - INSTANT, start_of_day(subscription.started_at, timezone))
    if subscription.charges_billed_until is not None:
        after = max(after, subscription.charges_billed_until)
    facts = facts_of(subscription, plan, timezone=timezone, first_started_at=first_started_at)
    ending_at = subscription.ending_at
    next_at = next_billing_at(facts, after=after)
    if next_at == subscription.trial_ended_at:  # today, and it is billed
        next_at = next_billing_at(facts, after=next_at)
    return Due(
        next_billing_at=next_at,
        activates_at=None,
        ends_at=start_of_day(ending_at, timezone) if ending_at else None,
        end_alert_at=next_end_alert(ending_at, timezone=timezone, after=now),
    )


def owes_at_start(
    subscription: Subscription, plan: Plan, *, timezone: str, first_started_at: datetime | None, now: datetime
) -> bool:
    """Whether anything is billed at once: nothing is where it starts on a past day.

    The fee of a plan paid in advance is, unless there are free days; fixed charges paid in advance always are.
    """
    pays_fixed = any(charge.pay_in_advance for charge in plan.fixed_charges)
    if not (plan.pay_in_advance or pays_fixed) or subscription.started_at is None:
        return False
    if start_of(subscription.started_at, now=now, timezone=timezone) is not Start.TODAY:
        return False
    free_until = trial_end(facts_of(subscription, plan, timezone=timezone, first_started_at=first_started_at))
    return pays_fixed or free_until is None or free_until <= now


def plan_period_end(subscription: Subscription, plan: Plan, *, timezone: str, now: datetime) -> datetime:
    """The end of the period of the plan's own fee that is running: a downgrade takes over there."""
    return period_containing(
        max(now, subscription.started_at or now),
        interval=plan.interval,
        billing_time=BillingTime(subscription.billing_time),
        anchor=subscription.subscription_at,
        timezone=timezone,
    ).to


def fixed_charges_period(subscription: Subscription, plan: Plan, *, timezone: str, now: datetime) -> Period:
    """The whole period of fixed charges that is running."""
    return period_containing(
        max(now, subscription.started_at or now),
        interval=charges_interval(plan.interval, plan.bill_fixed_charges_monthly),
        billing_time=BillingTime(subscription.billing_time),
        anchor=subscription.subscription_at,
        timezone=timezone,
    )


def current_period(subscription: Subscription, plan: Plan, *, timezone: str, now: datetime) -> Period | None:
    """The usage period that is running, which opens at the very instant of the start; None when none runs."""
    if subscription.status != "active" or subscription.started_at is None:
        return None
    period = period_containing(
        max(now, subscription.started_at),
        interval=charges_interval(plan.interval, plan.bill_charges_monthly),
        billing_time=BillingTime(subscription.billing_time),
        anchor=subscription.subscription_at,
        timezone=timezone,
    )
    return Period(max(period.from_, subscription.started_at), period.to)
