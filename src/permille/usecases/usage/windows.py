"""Windows: the periods of which a subscription's usage is read, and what has to be read of them to price its charges.

Source: semantics-metering.md sections 2.4, 5.12 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import in_force, version_at
from permille.core.contract.subscription import Subscription, current_period
from permille.core.customer import Customer
from permille.core.metering.aggregations import Aggregation, Needs
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import aggregator_of
from permille.core.period import (
    INSTANT,
    BillingTime,
    Period,
    charges_interval,
    period_containing,
)
from permille.core.rating.charge import Dimensions
from permille.core.rating.models import model_of
from permille.core.rating.models.catalogue import PRICE_DATE, price_changes, price_dates, with_prices
from permille.core.record import replace
from permille.events.usage import Cut, UsageQuery

# A move to another timezone shifts the bounds of the periods by so much at most against what is billed.
_TIMEZONES_APART = timedelta(hours=26)


def usage_period(subscription: Subscription, plan: Plan, *, timezone: str, now: datetime) -> Period:
    """The running period of an active subscription, from where the last bill of its usage ended.

    That is not quite the period's start when the customer has moved to another timezone since.
    """
    period = current_period(subscription, plan, timezone=timezone, now=now)
    assert period is not None, subscription.id
    billed = subscription.charges_billed_until
    if billed is not None and abs(period.from_ - billed) <= _TIMEZONES_APART and billed < period.to:
        return Period(billed, period.to)
    return period


def running_plan(subscription: Subscription, plan: Plan, customer: Customer, *, at: datetime) -> Plan:
    """The plan with the prices of the period that an active subscription is in at an instant."""
    if not plan.price_versions:
        return plan
    return in_force(plan, _running_from(subscription, plan, customer, at=at))


def running_version(subscription: Subscription, plan: Plan, customer: Customer, *, at: datetime) -> int:
    """The place of those prices among the versions of the plan's."""
    return version_at(plan, _running_from(subscription, plan, customer, at=at))


def _running_from(subscription: Subscription, plan: Plan, customer: Customer, *, at: datetime) -> datetime:
    return usage_period(subscription, plan, timezone=customer.applicable_timezone, now=at).from_


def whole_period(subscription: Subscription, plan: Plan, customer: Customer, period: Period) -> Period:
    """The whole billing period, of which the subscription may have begun in the middle."""
    return period_containing(
        period.to - INSTANT,
        interval=charges_interval(plan.interval, plan.bill_charges_monthly),
        billing_time=BillingTime(subscription.billing_time),
        anchor=subscription.subscription_at,
        timezone=customer.applicable_timezone,
    )


def usage_windows(
    subscription: Subscription, charges: Sequence[Charge], period: Period, *, timezone: str
) -> list[UsageQuery]:
    """What must be read to price the charges: recurring metrics reach back to the first event.

    A prorated sum reads days or events in the period alone: before it only what is carried over counts.
    The same is true of a weighted sum, of distinct values whose events of the period are priced one by one, and of
    what is paid in advance, for which the highest level of the period counts, by arrival. An event at the very
    instant of an upgrade is the new plan's.
    """
    if subscription.upgraded and subscription.terminated_at is not None:
        period = Period(period.from_, min(period.to, subscription.terminated_at))
    whole = {charge.metric.code for charge in charges if _reads_events(charge)}
    recurring = [charge for charge in charges if charge.metric.recurring]
    split = [charge for charge in recurring if _is_split(charge, reads_events=charge.metric.code in whole)]
    codes = {charge.metric.code for charge in split}
    parts = [
        ([charge for charge in charges if not charge.metric.recurring], period.from_, period.to),
        ([charge for charge in recurring if charge.metric.code not in codes], None, period.to),
        (split, None, period.from_),
        (split, period.from_, period.to),
    ]
    windows = [
        replace(
            _window(subscription, chosen, from_=from_, to=to),
            timezone=timezone,
            is_carried_over=from_ is None and to == period.from_,
        )
        for chosen, from_, to in parts
        if chosen and (from_ is None or from_ < to)
    ]
    return _between_price_dates(windows, charges, period)


def _between_price_dates(
    windows: list[UsageQuery], charges: Sequence[Charge], period: Period
) -> list[UsageQuery]:
    """The windows; those of metrics that are priced by date cut at the dates of prices."""
    dated = [charge for charge in charges if model_of(charge.charge_model).dated_by]
    if not dated:
        return windows
    codes = {charge.metric.code for charge in dated}
    whole = [each for window in windows if (each := window.of_codes(set(window.codes) - codes)).codes]
    cut = _cut(dated, period)
    return whole + [
        replace(window.of_codes(codes), from_=period.from_, to=min(period.to, window.to), cut=cut)
        for window in windows
        if codes & set(window.codes) and period.from_ < window.to
    ]


def _cut(dated: Sequence[Charge], period: Period) -> Cut:
    """Where prices change within a period; for a series, where its own does."""
    prices = [
        (charge, each)
        for charge in dated
        for each in (charge.properties, *(f.properties for f in charge.filters))
    ]
    all_dates = {at for charge, properties in prices for at in price_dates(properties, charge.catalogue)}
    first, last = (at.astimezone(UTC).date() for at in (period.from_, period.to))
    dates = frozenset(at for at in all_dates if first < at <= last)
    changes = [
        price_changes(with_prices(properties, charge.catalogue, charge.metric.code))
        for charge, properties in prices
    ]

    def dates_of(dimensions: Dimensions) -> frozenset[date]:
        return frozenset[date]().union(*[changes_of(dimensions, dates) for changes_of in changes])

    return Cut(name=PRICE_DATE, dates=dates, dates_of=dates_of)


def _is_split(charge: Charge, *, reads_events: bool) -> bool:
    """Whether a recurring charge's events of the period are read apart from what is carried over."""
    aggregation = charge.metric.aggregation
    if aggregation.needs is Needs.UNIQUES:
        return reads_events or charge.pay_in_advance
    return aggregation.is_by_time or (_follows_changes(charge) and not reads_events)


def carried_over_query(subscription: Subscription, charges: Sequence[Charge], *, at: datetime) -> UsageQuery:
    """What must be read to know what recurring metrics carry over into a period that begins at an instant."""
    return _window(subscription, charges, from_=None, to=at)


def _window(
    subscription: Subscription, chosen: Sequence[Charge], *, from_: datetime | None, to: datetime
) -> UsageQuery:
    fields = {
        charge.metric.code: charge.metric.field_name or ""
        for charge in chosen
        if charge.metric.aggregation.needs is Needs.UNIQUES
    }
    followed = {charge.metric.code for charge in chosen if _follows_changes(charge)}
    in_period = followed - fields.keys() if from_ is not None else set()
    single = {
        charge.metric.code
        for charge in chosen
        if _reads_events(charge) and not charge.metric.aggregation.adds_one
    }
    single |= in_period & {charge.metric.code for charge in chosen if not _is_priced_by_days(charge)}
    return UsageQuery(
        organization_id=chosen[0].metric.organization_id,
        external_subscription_id=subscription.external_id,
        from_=from_,
        to=to,
        codes=_codes(chosen),
        newest=_codes(charge for charge in chosen if charge.metric.aggregation.needs is Needs.NEWEST),
        unique_fields=tuple(fields.items()),
        operation_fields=tuple((code, name) for code, name in fields.items() if code in followed),
        each_value=tuple(sorted(single)),
        daily=tuple(sorted(in_period - single)),
        custom=custom_properties_read(charge.metric for charge in chosen),
    )


def custom_properties_read(metrics: Iterable[BillableMetric]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Code -> the properties that the rules of its metric look at, for metrics with custom aggregation."""
    read = {metric.code: aggregator_of(metric) for metric in metrics}
    return tuple((code, rules.properties) for code, rules in sorted(read.items()) if rules is not None)


def _codes(charges: Iterable[Charge]) -> tuple[str, ...]:
    return tuple(sorted({charge.metric.code for charge in charges}))


def _is_priced_by_days(charge: Charge) -> bool:
    """Whether the price of changes is that of each day's changes together: not where it looks at the level's top."""
    return not (charge.pay_in_advance or model_of(charge.charge_model).is_of_changes)


def _follows_changes(charge: Charge) -> bool:
    """Whether the price looks at each change in the period; events of a custom aggregation are read anyway."""
    return charge.prorated or (charge.pay_in_advance and has_kept_level(charge.metric.aggregation))


def has_kept_level(aggregation: Aggregation) -> bool:
    """Whether the highest level of what is paid in advance is kept, not found again in events that are all read."""
    return aggregation.may_fall and aggregation.needs is not Needs.EVENTS


def _reads_events(charge: Charge) -> bool:
    """Whether sums are not enough to price the charge."""
    prices = [charge.properties, *(each.properties for each in charge.filters)]
    return any(map(model_of(charge.charge_model).reads_events, prices))
