"""Usage: what a subscription has used so far in its period, and what it used in the periods billed.

Current usage is priced by the same core.rating.rate as the invoice at the period's end, so that the two
cannot disagree; past usage is read from the invoices. Source: semantics-metering.md section 6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.core.contract.compiled import compile_plan_charge, renewal_charge
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.price_versions import in_force, version_at
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.errors import NotAllowed, NotFound
from permille.core.invoice.tax_choice import taxes_of_charge
from permille.core.metering.usage import Partial
from permille.core.money import ZERO, exact
from permille.core.period import (
    INSTANT,
    Period,
    local_date,
)
from permille.core.rating.charge import CompiledCharge, Dimensions, Place, shown_group
from permille.core.rating.fee import Breakdown, Fee
from permille.core.rating.level import PaidLevel
from permille.core.rating.linear import Column, has_one_price, price_columns
from permille.core.rating.models import ChargeModel
from permille.core.rating.models.group_keys import PRICING, TARGET_WALLET, pricing_keys
from permille.core.rating.pricing_unit import InUnit
from permille.core.rating.projection import Projection, elapsed_share, project, project_all
from permille.core.rating.proration import RatedPeriod, rated_period
from permille.core.rating.rate import PricedUsage, owed_cents, price_usage, rate
from permille.core.rating.rounding import Rounding
from permille.core.record import Record, field, replace
from permille.core.tax import tax_invoice
from permille.events.engine import usage
from permille.events.usage import SeriesUsage, UsageQuery
from permille.store import (
    customers,
    fee_items,
    fees as fee_store,
    past_usage as past,
    plans,
    subscriptions,
)
from permille.store.fee_items import FeeItem
from permille.store.fees import StoredFee
from permille.usecases.usage.levels import read_paid_levels, terms_of_charge
from permille.usecases.usage.windows import has_kept_level, usage_period, usage_windows, whole_period

Series = Sequence[tuple[Dimensions, Partial]]


class UsageSearch(Record, kw_only=True):
    """What a look at the current usage is narrowed to. Of the first three, the first that is given counts."""

    charge_id: str | None = None
    charge_code: str | None = None
    billable_metric_code: str | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Property -> values: only events with one of them count, and the property makes no groups. An empty text is
    also for events without the property, as in groups."""
    skip_grouping: bool = False
    """Price all groups as one."""
    presentation: tuple[str, ...] | None = None
    """Show only breakdowns with one of these values; None shows all."""
    full_usage: bool = False
    """Since the start of the subscription, not of the period."""
    with_taxes: bool = True
    projected: bool = False
    """Whether the projection of the period is wanted too."""

    def shows(self, breakdown: Breakdown) -> bool:
        """Whether it asks for a breakdown."""
        values = breakdown.presentation_by.values()
        return self.presentation is None or any(value in self.presentation for value in values)

    @property
    def regroups(self) -> bool:
        """Whether it prices other events together than the invoice does."""
        return bool(self.groups) or self.skip_grouping or self.full_usage

    @property
    def names_a_charge(self) -> bool:
        return bool(self.charge_id or self.charge_code or self.billable_metric_code)


class ShownBreakdown(Record, kw_only=True):
    """Units of a line by properties that only show."""

    presentation_by: Mapping[str, str]
    units: Decimal
    projected_units: Decimal | None = None


class UsedFilter(Record, kw_only=True):
    """The filter that a line is of."""

    id: UUID
    invoice_display_name: str | None
    values: Mapping[str, Sequence[str]]


class UsedUnit(Record, kw_only=True):
    """The pricing unit that a line was priced in, and what it came to in hundredths of it."""

    amount_cents: int
    short_name: str
    conversion_rate: Decimal


class UsageLine(NamedTuple):
    """One fee of a charge: a filter (None: what no filter wants) and a pricing group (empty: none)."""

    filter: UsedFilter | None
    grouped_by: Mapping[str, str | None]
    units: Decimal
    total_aggregated_units: Decimal
    events_count: int
    amount_cents: int
    in_unit: UsedUnit | None = None
    """What the money was converted from, where the charge is priced in a unit."""
    breakdowns: tuple[ShownBreakdown, ...] = ()
    projection: Projection | None = None
    """What it would come to at the period's end, where that was asked for."""
    is_unpriced: bool = False
    """Whether it is usage that has no price (core.unlisted)."""


class ChargeUsage(Record, kw_only=True):
    """What a charge came to; current usage has a line for every filter, used or not."""

    charge_id: UUID
    charge_code: str
    charge_model: ChargeModel
    invoice_display_name: str | None
    has_filters: bool
    metric_id: UUID
    metric_name: str
    metric_code: str
    aggregation_type: str
    lines: tuple[UsageLine, ...]


class PeriodUsage(Record, kw_only=True):
    """Usage of one subscription in one period, which for current usage is not over."""

    period: Period
    issuing_date: date
    currency: str
    amount_cents: int
    taxes_amount_cents: int
    invoice_id: UUID | None
    charges: tuple[ChargeUsage, ...]

    @property
    def projected_amount_cents(self) -> int:
        """The projected amounts of the first line of each charge, as in Lago: less than all lines have."""
        first = [used.lines[0].projection for used in self.charges]
        return sum(each.amount_cents for each in first if each is not None)


def current_usage(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_customer_id: str,
    external_subscription_id: str,
    search: UsageSearch,
    now: datetime,
) -> PeriodUsage:
    """The usage of the running period, priced.

    Raises NotFound (resource, charge), NotAllowed (no_active_subscription, full_usage_not_allowed).
    """
    customer = customers.by_external_id(conn, organization_id, external_customer_id)
    if customer is None:
        raise NotFound("resource")
    subscription = subscriptions.active(conn, organization_id, external_subscription_id)
    if subscription is None or subscription.customer_id != customer.id:
        raise NotAllowed("no_active_subscription")
    payer = customers.of_subscriptions(conn, [subscription])[subscription.id]
    return running_usage(conn, subscription, payer, search=search, now=now)


def running_usage(
    conn: Connection[Any],
    subscription: Subscription,
    customer: Customer,
    *,
    search: UsageSearch,
    now: datetime,
) -> PeriodUsage:
    """The usage of an active subscription. Raises NotFound (charge), NotAllowed (full_usage_not_allowed)."""
    return running_usages(conn, [(subscription, customer)], search=search, now=now)[0]


def running_usages(
    conn: Connection[Any],
    of: Sequence[tuple[Subscription, Customer]],
    *,
    search: UsageSearch,
    now: datetime,
) -> list[PeriodUsage]:
    """The usage of the running period of each active subscription; set-based, whatever their number.

    Raises NotFound (charge), NotAllowed (full_usage_not_allowed).
    """
    organization_ids = {subscription.organization_id for subscription, _ in of}
    return usage.under_one_metering(
        conn, organization_ids, lambda: _running_usages(conn, of, search=search, now=now)
    )


class _Running(Record, kw_only=True):
    """An active subscription in the period of which the usage is asked for."""

    subscription: Subscription
    customer: Customer
    plan: Plan
    version: int
    """The place of the prices in force among the versions of the plan's."""
    charges: Sequence[Charge]
    period: Period

    @property
    def timezone(self) -> str:
        return self.customer.applicable_timezone


def _running_usages(
    conn: Connection[Any],
    of: Sequence[tuple[Subscription, Customer]],
    *,
    search: UsageSearch,
    now: datetime,
) -> list[PeriodUsage]:
    known = plans.plans_by_ids(conn, {row.plan_id for row, _ in of})
    running = [
        _running(subscription, customer, known[subscription.plan_id], search=search, now=now)
        for subscription, customer in of
    ]
    paid_levels = [{} for _ in running] if search.regroups else _paid_levels(conn, running, now=now)
    windows = [_windows(each, levels) for each, levels in zip(running, paid_levels, strict=True)]
    read = iter(usage.usage_of_many(conn, [window for own in windows for window in own]))
    compiled: dict[tuple[UUID, int], list[CompiledCharge]] = {}
    found = []
    for each, own, levels in zip(running, windows, paid_levels, strict=True):
        prices = (each.plan.id, each.version)
        if prices not in compiled:
            compiled[prices] = [
                compile_searched(charge, search, currency=each.plan.amount_currency)
                for charge in each.charges
            ]
        series = series_by_code(used for _ in own for used in next(read))
        found.append(_period_usage(each, compiled[prices], series, levels, search=search, now=now))
    return found


def compile_searched(charge: Charge, search: UsageSearch, *, currency: str) -> CompiledCharge:
    """The charge as it prices what the search asks for."""
    dropped = None if search.skip_grouping else search.groups.keys()
    return compile_plan_charge(_regrouped(charge, dropped), currency=currency)


def _running(
    subscription: Subscription, customer: Customer, plan: Plan, *, search: UsageSearch, now: datetime
) -> _Running:
    assert subscription.started_at is not None, subscription.id
    period = usage_period(subscription, plan, timezone=customer.applicable_timezone, now=now)
    version, plan = version_at(plan, period.from_), in_force(plan, period.from_)
    charges = searched_charges(plan, search)
    if search.full_usage:
        _check_full_usage(search, charges)
        period = Period(subscription.started_at, period.to)
    return _Running(
        subscription=subscription,
        customer=customer,
        plan=plan,
        version=version,
        charges=charges,
        period=period,
    )


def _windows(of: _Running, levels: Mapping[UUID, Any]) -> list[UsageQuery]:
    read = [renewal_charge(each, is_whole=True) if each.id in levels else each for each in of.charges]
    return usage_windows(of.subscription, read, of.period, timezone=of.timezone)


def _period_usage(
    of: _Running,
    compiled: Sequence[CompiledCharge],
    series: Mapping[str, Series],
    levels: Mapping[UUID, Mapping[Place, PaidLevel]],
    *,
    search: UsageSearch,
    now: datetime,
) -> PeriodUsage:
    """What was used, priced."""
    whole = whole_period(of.subscription, of.plan, of.customer, of.period)
    rated = rated_period(of.period, whole, of.timezone)
    elapsed = elapsed_share(now, of.period, of.timezone) if search.projected else None
    found = [
        charge_usage(
            charge,
            prices,
            series[charge.metric.code],
            search=search,
            subscription_id=of.subscription.id,
            rated=rated,
            elapsed=elapsed,
            paid_levels=levels.get(charge.id),
        )
        for charge, prices in zip(of.charges, compiled, strict=True)
    ]
    return PeriodUsage(
        period=of.period,
        issuing_date=local_date(of.period.to - INSTANT, of.timezone),
        currency=of.plan.amount_currency,
        amount_cents=sum(line.amount_cents for each in found for line in each.lines),
        taxes_amount_cents=_taxes_amount_cents(found, of.plan, of.customer) if search.with_taxes else 0,
        invoice_id=None,
        charges=tuple(found),
    )


def _paid_levels(
    conn: Connection[Any], running: Sequence[_Running], *, now: datetime
) -> list[dict[UUID, Mapping[Place, PaidLevel]]]:
    """What the charges in advance of each are priced by, where levels are kept of it."""
    wanted = [
        (number, terms_of_charge(each.subscription, each.plan, each.customer, charge, at=now))
        for number, each in enumerate(running)
        for charge in each.charges
        if charge.pay_in_advance and has_kept_level(charge.metric.aggregation)
    ]
    found: list[dict[UUID, Mapping[Place, PaidLevel]]] = [{} for _ in running]
    levels = read_paid_levels(conn, [terms for _, terms in wanted])
    for (number, terms), paid_levels in zip(wanted, levels, strict=True):
        found[number][terms.charge.id] = paid_levels
    return found


def _taxes_amount_cents(found: Sequence[ChargeUsage], plan: Plan, customer: Customer) -> int:
    """What the invoice's taxes would be if the period ended now."""
    taxes = {charge.id: taxes_of_charge(charge, plan, customer) for charge in plan.charges}
    return tax_invoice(
        [(sum(line.amount_cents for line in used.lines), taxes[used.charge_id]) for used in found]
    ).amount_cents


def searched_charges(plan: Plan, search: UsageSearch) -> list[Charge]:
    """The charges asked for: all of them by the name of their metric, some in the order of the plan.

    Raises NotFound when none fits.
    """
    if not search.names_a_charge:
        return sorted(plan.charges, key=lambda charge: charge.metric.name.lower())
    if search.charge_id:
        found = [charge for charge in plan.charges if str(charge.id) == search.charge_id.lower()]
    elif search.charge_code:
        found = [charge for charge in plan.charges if charge.code == search.charge_code]
    else:
        found = [charge for charge in plan.charges if charge.metric.code == search.billable_metric_code]
    if not found:
        raise NotFound("charge")
    return found


def _check_full_usage(search: UsageSearch, charges: Sequence[Charge]) -> None:
    narrowed = search.names_a_charge or search.groups
    if not narrowed or any(charge.prorated for charge in charges):
        raise NotAllowed("full_usage_not_allowed")


def series_by_code(read: Iterable[SeriesUsage]) -> Mapping[str, Series]:
    """By the metrics' codes; empty for any other."""
    found: dict[str, list[tuple[Dimensions, Partial]]] = defaultdict(list)
    for each in read:
        found[each.code].append((each.dimensions, each.partial))
    return found


def charge_usage(
    charge: Charge,
    compiled: CompiledCharge,
    series: Series,
    *,
    search: UsageSearch,
    subscription_id: UUID,
    rated: RatedPeriod,
    elapsed: Fraction | None = None,
    paid_levels: Mapping[Place, PaidLevel] | None = None,
) -> ChargeUsage:
    """Price what was used of a charge: pure, and the same fees as on the invoice unless the search regroups.

    With the share of the period that is over, also what the fees would come to at its end.
    """
    if search.groups:
        series = [each for each in series if _is_searched(each[0], search.groups)]
    filters: dict[Any, UsedFilter] = {each.id: _used_filter(each) for each in charge.filters}
    if elapsed is None and not compiled.presentation_keys.names:
        with exact():
            if compiled.rounding is Rounding.PER_FEE and has_one_price(compiled):
                lines = tuple(_lines_of_columns(price_columns(compiled, series), filters))
            else:
                priced = list(price_usage(compiled, series, rated=rated, paid_levels=paid_levels))
                lines = tuple(_priced_lines(compiled, priced, filters))
    else:
        fees = rate(compiled, series, subscription_id=subscription_id, rated=rated, paid_levels=paid_levels)
        lines = tuple(_fee_lines(charge, compiled, fees, filters, search=search, elapsed=elapsed))
    return ChargeUsage(
        charge_id=charge.id,
        charge_code=charge.code,
        charge_model=charge.charge_model,
        invoice_display_name=charge.invoice_display_name,
        has_filters=bool(charge.filters),
        metric_id=charge.metric.id,
        metric_name=charge.metric.name,
        metric_code=charge.metric.code,
        aggregation_type=charge.metric.aggregation_type,
        lines=lines,
    )


def _fee_lines(
    charge: Charge,
    compiled: CompiledCharge,
    fees: Sequence[Fee],
    filters: Mapping[Any, UsedFilter],
    *,
    search: UsageSearch,
    elapsed: Fraction | None,
) -> Iterable[UsageLine]:
    """The lines of fees, with what they would come to and how they are shown."""

    def projection_of(fee: Fee) -> Projection | None:
        if elapsed is None:
            return None
        return project(compiled, fee, recurring=charge.metric.recurring, elapsed=elapsed)

    def breakdowns_of(fee: Fee) -> Iterable[ShownBreakdown]:
        for each in fee.presentation.breakdowns if fee.presentation else ():
            if search.shows(each):
                projection = projection_of(replace(fee, units=each.units))
                yield ShownBreakdown(
                    presentation_by=each.presentation_by,
                    units=each.units,
                    projected_units=projection.units if projection else None,
                )

    projections: Sequence[Projection | None] = [None] * len(fees)
    if elapsed is not None:
        projections = project_all(compiled, fees, recurring=charge.metric.recurring, elapsed=elapsed)
    for fee, projection in zip(fees, projections, strict=True):
        line = _line(fee, filters.get(fee.charge_filter_id))
        yield line._replace(breakdowns=tuple(breakdowns_of(fee)), projection=projection)


def _priced_lines(
    charge: CompiledCharge, priced: Sequence[PricedUsage], filters: Mapping[Any, UsedFilter]
) -> Iterator[UsageLine]:
    """The lines of the fees that they make, without the fees."""
    for each, (cents, in_unit) in zip(priced, owed_cents(charge, priced), strict=True):
        bucket, group, (units, events_count, total), _ = each
        yield UsageLine(
            filters.get(bucket.charge_filter_id),
            shown_group(charge, group),
            units,
            total,
            events_count,
            cents,
            _used_unit(in_unit) if in_unit else None,
            (),
            None,
            each.is_unpriced,
        )


def _lines_of_columns(columns: Iterable[Column], filters: Mapping[Any, UsedFilter]) -> Iterator[UsageLine]:
    """The same of a charge that is priced by columns: there may be ten thousand groups."""
    for bucket, *column in columns:
        used, is_unpriced = filters.get(bucket.charge_filter_id), bucket.is_unpriced
        for group, units, events_count, cents in zip(*column, strict=True):
            shown = dict(group)
            has_no_price = is_unpriced and bool(units or events_count)
            yield UsageLine(used, shown, units, units, events_count, cents, None, (), None, has_no_price)


def _line(fee: Fee, used: UsedFilter | None) -> UsageLine:
    return UsageLine(
        filter=used,
        grouped_by=fee.grouped_by,
        units=fee.units,
        total_aggregated_units=fee.total_aggregated_units or ZERO,
        events_count=fee.events_count or 0,
        amount_cents=fee.amount_cents,
        in_unit=_used_unit(fee.in_unit) if fee.in_unit else None,
        is_unpriced=fee.is_unpriced,
    )


def _used_unit(found: InUnit) -> UsedUnit:
    return UsedUnit(
        amount_cents=found.amounts.amount_cents,
        short_name=found.applied.unit.short_name,
        conversion_rate=found.applied.conversion_rate,
    )


def _used_filter(one: PlanFilter) -> UsedFilter:
    return UsedFilter(id=one.id, invoice_display_name=one.invoice_display_name, values=one.values)


def _is_searched(dimensions: Dimensions, groups: Mapping[str, tuple[str, ...]]) -> bool:
    return all((dimensions.get(key) or "") in values for key, values in groups.items())


def _regrouped(charge: Charge, dropped: Iterable[str] | None) -> Charge:
    """The charge without some of its pricing groups; None drops them all."""
    gone = None if dropped is None else frozenset(dropped)
    if gone is not None and not gone:
        return charge
    return replace(
        charge,
        accepts_target_wallet=charge.accepts_target_wallet and gone is not None and TARGET_WALLET not in gone,
        properties=_ungrouped(charge.properties, gone),
        filters=tuple(replace(each, properties=_ungrouped(each.properties, gone)) for each in charge.filters),
    )


def _ungrouped(properties: Mapping[str, Any], gone: frozenset[str] | None) -> dict[str, Any]:
    kept = [] if gone is None else [key for key in pricing_keys(properties) if key not in gone]
    return {**properties, PRICING: kept}


def past_usage(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_customer_id: str,
    external_subscription_id: str,
    billable_metric_code: str | None,
    limit: int,
    offset: int,
) -> tuple[list[PeriodUsage], int]:
    """The billed periods, newest first, and how many there are. The amounts are the whole invoice's."""
    periods, total = past.periods(
        conn,
        organization_id=organization_id,
        external_customer_id=external_customer_id,
        external_subscription_id=external_subscription_id,
        limit=limit,
        offset=offset,
    )
    invoice_ids = {period.invoice_id for period in periods}
    fees = fee_store.of_invoices(conn, invoice_ids)
    items = fee_items.of_fees(conn, chain.from_iterable(fees.values()))
    return [
        PeriodUsage(
            period=Period(each.from_at, each.to_at),
            issuing_date=each.issuing_date,
            currency=each.currency,
            amount_cents=each.fees_amount_cents,
            taxes_amount_cents=each.taxes_amount_cents,
            invoice_id=each.invoice_id,
            charges=_past_charges(
                [fee for fee in fees[each.invoice_id] if fee.subscription_id == each.subscription_id],
                items,
                billable_metric_code,
            ),
        )
        for each in periods
    ], total


def _past_charges(
    fees: Iterable[StoredFee], items: Mapping[UUID, FeeItem], code: str | None
) -> tuple[ChargeUsage, ...]:
    lines: dict[UUID, tuple[FeeItem, list[UsageLine]]] = {}
    for fee in fees:
        item = items.get(fee.id)
        if item is not None and code in (None, item.metric_code):
            lines.setdefault(item.charge_id, (item, []))[1].append(_past_line(fee, item))
    return tuple(
        ChargeUsage(
            charge_id=item.charge_id,
            charge_code=item.charge_code,
            charge_model=item.charge_model,
            invoice_display_name=item.charge_invoice_display_name,
            has_filters=item.charge_has_filters,
            metric_id=item.metric_id,
            metric_name=item.metric_name,
            metric_code=item.metric_code,
            aggregation_type=item.aggregation_type,
            lines=tuple(own),
        )
        for item, own in sorted(lines.values(), key=lambda each: each[0].metric_name.lower())
    )


def _past_line(fee: StoredFee, item: FeeItem) -> UsageLine:
    used = None
    if item.filter_id is not None:
        used = UsedFilter(
            id=item.filter_id,
            invoice_display_name=item.filter_invoice_display_name,
            values=item.filter_values or {},
        )
    unit = None
    if fee.pricing_unit_details is not None:
        unit = UsedUnit(
            amount_cents=fee.pricing_unit_details["amount_cents"],
            short_name=fee.pricing_unit_details["short_name"],
            conversion_rate=Decimal(fee.pricing_unit_details["conversion_rate"]),
        )
    return UsageLine(
        filter=used,
        grouped_by=fee.grouped_by,
        units=fee.units,
        total_aggregated_units=fee.total_aggregated_units or ZERO,
        events_count=fee.events_count or 0,
        amount_cents=fee.amount_cents,
        in_unit=unit,
        is_unpriced=fee.is_unpriced,
        breakdowns=tuple(
            ShownBreakdown(presentation_by=each["presentation_by"], units=Decimal(each["units"]))
            for each in (fee.presentation or {}).get("breakdowns", ())
        ),
    )
