"""Usage of a subscription by day, in its customer's timezone: one read for any number of days and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from psycopg import Connection

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.metering.aggregations import Needs
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.usage import Usage
from permille.core.period import INSTANT, Period, local_date, midnight
from permille.core.rating.charge import CompiledCharge, counted_by, series_place
from permille.core.rating.daily_usage import (
    Day,
    Reach,
    Series,
    day_of,
    fold_custom_days,
    fold_days,
    reach_of,
)
from permille.core.rating.filters import Group
from permille.core.record import Record, replace
from permille.events.engine import usage
from permille.events.usage import UsageQuery
from permille.store import customers, plans
from permille.usecases.usage.usage import UsageSearch, searched_charges, series_by_code
from permille.usecases.usage.windows import custom_properties_read, running_plan, whole_period

_ONE_DAY = timedelta(days=1)


class Calendar(Record, kw_only=True):
    """The local days of one row of a subscription: `life` goes to its end, or to that of the running period.

    Events may be dated ahead of now, and count in the running period.
    """

    subscription: Subscription
    plan: Plan
    customer: Customer
    life: Period

    @property
    def timezone(self) -> str:
        return self.customer.applicable_timezone

    @property
    def first(self) -> date:
        return local_date(self.life.from_, self.timezone)

    @property
    def last(self) -> date:
        return local_date(self.life.to - INSTANT, self.timezone)

    def opened_at(self, at: datetime) -> datetime:
        """When the billing period of an instant started, or the subscription in it."""
        whole = whole_period(self.subscription, self.plan, self.customer, Period(at, at + INSTANT))
        return max(whole.from_, self.life.from_)

    def running(self, now: datetime) -> Period:
        """The running billing period; after the end of the life its last one."""
        at = min(max(now, self.life.from_), self.life.to - INSTANT)
        whole = whole_period(self.subscription, self.plan, self.customer, Period(at, at + INSTANT))
        return Period(max(whole.from_, self.life.from_), min(whole.to, self.life.to))

    def days(self, first: date, count: int) -> list[Day]:
        """So many days from one on, all between `first` and `last`."""
        dates = [first + n * _ONE_DAY for n in range(count)]
        return [
            day_of(
                each,
                self.life,
                self.timezone,
                opened_at=self.opened_at(max(self.life.from_, midnight(each, self.timezone))),
            )
            for each in dates
        ]


class DailyLine(Record, kw_only=True):
    """Units of a charge on a day: of a filter (None: what no filter wants) and a pricing group."""

    filter: PlanFilter | None
    grouped_by: Group
    usage: Usage


class DailyUsage(Record, kw_only=True):
    """A day, and what each charge has used of it; every charge is there, its lines only where it was used."""

    day: Day
    charges: tuple[tuple[Charge, tuple[DailyLine, ...]], ...]


def calendar_of(conn: Connection[Any], subscription: Subscription, *, now: datetime) -> Calendar | None:
    """The days of a row that has started, None of one that has not."""
    plan = plans.plan_by_id(conn, subscription.plan_id)
    customer = customers.by_ids(conn, [subscription.customer_id])[subscription.customer_id]
    if subscription.started_at is None:
        return None
    if subscription.terminated_at is None:
        at = max(now, subscription.started_at)
        to = whole_period(subscription, plan, customer, Period(at, at + INSTANT)).to
    else:
        # An event at the very instant of the end is of the row that ends, but for an upgrade (usage_windows).
        to = subscription.terminated_at + (timedelta(0) if subscription.upgraded else INSTANT)
    if to <= subscription.started_at:
        return None
    life = Period(subscription.started_at, to)
    running = replace(subscription, status="active")
    priced = running_plan(running, plan, customer, at=min(now, to - INSTANT))
    return Calendar(subscription=subscription, plan=priced, customer=customer, life=life)


def daily_usage(
    conn: Connection[Any], of: Calendar, days: Sequence[Day], *, search: UsageSearch
) -> list[DailyUsage]:
    """What the charges asked for have used on these days. Raises NotFound (charge)."""
    charges = searched_charges(of.plan, search)
    read = read_days(conn, of, days, {charge.metric.code: charge.metric for charge in charges})
    folded = [_charge_days(charge, of.plan.amount_currency, read[charge.metric.code]) for charge in charges]
    return [
        DailyUsage(
            day=day, charges=tuple((charge, lines[n]) for charge, lines in zip(charges, folded, strict=True))
        )
        for n, day in enumerate(days)
    ]


class ReadDays(Record, kw_only=True):
    """What was read of one metric: what is carried over into the first day, and the events of each day."""

    before: Series
    days: Sequence[tuple[Day, Series]]


def read_days(
    conn: Connection[Any], of: Calendar, days: Sequence[Day], metrics: Mapping[str, BillableMetric]
) -> dict[str, ReadDays]:
    """By the metrics' codes, for core.daily_usage.fold_days; in one read, from cells where these suffice."""
    if not days:
        return {code: ReadDays(before=(), days=()) for code in metrics}
    start = days[0].part.from_
    reaching = {reach: [each for each in metrics.values() if reach_of(each) is reach] for reach in Reach}
    windows = [
        _window(of.subscription, reaching[Reach.EVER], None, start),
        _window(of.subscription, reaching[Reach.PERIOD], min(start, of.opened_at(start)), start),
        *(_window(of.subscription, list(metrics.values()), day.part.from_, day.part.to) for day in days),
    ]
    ever, period, *own = [series_by_code(each) for each in usage.usage_of_many(conn, windows)]
    return {
        code: ReadDays(
            before=[*ever[code], *period[code]],
            days=[(day, found[code]) for day, found in zip(days, own, strict=True)],
        )
        for code in metrics
    }


def _window(
    subscription: Subscription,
    metrics: Sequence[BillableMetric],
    from_: datetime | None,
    to: datetime,
) -> UsageQuery:
    def codes(needs: Needs) -> list[str]:
        return sorted(each.code for each in metrics if each.aggregation.needs is needs)

    names = {each.code: each.field_name or "" for each in metrics}
    return UsageQuery(
        organization_id=subscription.organization_id,
        external_subscription_id=subscription.external_id,
        codes=tuple(sorted(names)),
        from_=from_,
        to=to,
        newest=tuple(codes(Needs.NEWEST)),
        unique_fields=tuple((code, names[code]) for code in codes(Needs.UNIQUES)),
        custom=custom_properties_read(metrics),
    )


def _charge_days(charge: Charge, currency: str, read: ReadDays) -> list[tuple[DailyLine, ...]]:
    """The lines of each day, in the order of the filters, then by group."""
    compiled = compile_plan_charge(charge, currency=currency)
    filters: list[PlanFilter | None] = [*charge.filters, None]
    if compiled.aggregator is None:
        folded = fold_days(
            charge.metric,
            counted_series(compiled, read.before),
            [(day, counted_series(compiled, series)) for day, series in read.days],
            place_of=lambda dimensions: series_place(compiled, dimensions),
        )
    else:
        folded = fold_custom_days(compiled, read.before, read.days, recurring=charge.metric.recurring)
    return [
        tuple(
            DailyLine(filter=filters[index], grouped_by=group, usage=places[index, group])
            for index, group in sorted(places, key=_by_texts)
        )
        for places in folded
    ]


def counted_series(charge: CompiledCharge, series: Series) -> Series:
    """What of the series counts for the charge."""
    return [(dimensions, counted_by(charge, partial)) for dimensions, partial in series]


def _by_texts(place: tuple[int, Group]) -> tuple[int, list[tuple[bool, str]]]:
    return place[0], [(text is None, text or "") for _, text in place[1]]
