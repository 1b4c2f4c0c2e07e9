"""Fees: the priced lines of an invoice, one for each bucket of a charge's usage, and the plan's own.

A charge's usage falls into buckets: one for each of its filters and one for what no filter wants, each split
by the pricing groups. Every bucket is aggregated and priced by itself, and rounded by itself or, where the charge
says so, with the others (core.rounding); the total is the sum of the rounded fees. Source: semantics-metering.md sections 2.2, 4.3, 4.4, 5.15; semantics-billing.md 3.11.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from permille.core.contract.plan import Charge, expanded_filters
from permille.core.metering.aggregations import Aggregation, Needs
from permille.core.metering.custom_aggregation import Aggregator, aggregator_of, fold
from permille.core.metering.usage import (
    EMPTY,
    NO_USAGE,
    Partial,
    Usage,
    merge,
    rounded,
)
from permille.core.money import ZERO, LineAmounts, exact, line_amounts, precise, round_cents, subunits
from permille.core.period import Period
from permille.core.rating.filters import ChargeFilter, Group, Id, filter_finder, group_of
from permille.core.rating.level import NOTHING_HELD, Held, by_arrival, held_sum, held_uniques
from permille.core.rating.models import ChargeModel, Price, Pricer, Quantity, percentage, pricer
from permille.core.rating.models.group_keys import PresentationKeys, presentation_keys, pricing_keys
from permille.core.rating.pricing_unit import SUBUNITS, AppliedPricingUnit, InUnit, Owed, owed
from permille.core.rating.proration import Proration, prorate_sum, prorate_uniques
from permille.core.rating.rounding import Earlier, Rounding, carry_on, round_together, sum_of_lines
from permille.core.rating.unlisted import UnlistedValues, is_unpriced

Dimensions = Mapping[str, str | None]
"""The property texts that tell events apart: the metric's filter keys and the grouping keys."""

Place = tuple[int, Group]
"""Where usage counts: the bucket's index in its charge, and the pricing group."""

_BUCKETS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Units of a fee by properties that only show. A missing one is an empty text: Lago's clients take no null."""

    presentation_by: Mapping[str, str]
    units: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """How a fee is shown (semantics-metering.md section 4.5); its invoice shows some of the properties alone."""

    breakdowns: tuple[Breakdown, ...]
    on_invoice: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """A line of an invoice before it has an identity, taxes and credits. Instants are half-open."""

    kind: str
    """charge or subscription."""
    subscription_id: Id
    charge_id: Id | None
    charge_filter_id: Id | None
    invoice_display_name: str | None
    """The filter's own name, for the default bucket the charge's."""
    units: Decimal
    events_count: int | None
    total_aggregated_units: Decimal | None
    amount_cents: int
    precise_amount_cents: Decimal
    unit_amount_cents: int
    """Cut off, not rounded, as in Lago."""
    precise_unit_amount: Decimal
    """In major units."""
    amount_details: Mapping[str, Any]
    grouped_by: Mapping[str, str | None]
    from_: datetime
    to: datetime
    pay_in_advance: bool = False
    """Whether an event made it, or a renewal of what stands, ahead of the period's end."""
    event_transaction_id: str | None = None
    """Of the event that made it."""
    is_true_up: bool = False
    """Whether it makes the charge's other fees up to the least amount."""
    in_unit: InUnit | None = None
    """What the money was converted from, where the charge is priced in a unit."""
    presentation: Presentation | None = None
    """None where the charge has no such properties."""
    is_unpriced: bool = False
    """Whether it is usage that no filter lists and that has no price."""
    is_held: bool = False
    """Whether its invoice waits until that usage has one."""
    late_usage_id: Id | None = None
    """The late usage that it bills (core.late_usage)."""
    rounding: Rounding = Rounding.PER_FEE
    earlier: Earlier | None = None
    """What it carries on from, where the fees of its charge are rounded together one after the other."""

    @property
    def owed(self) -> Owed:
        """Its money, and what that was converted from."""
        money = LineAmounts(
            self.amount_cents, self.precise_amount_cents, self.unit_amount_cents, self.precise_unit_amount
        )
        return Owed(money, self.in_unit)

    def owing(self, owed: Owed) -> Fee:
        """The fee with other amounts."""
        amount_cents, precise_cents, _, _ = owed.money
        return replace(
            self, amount_cents=amount_cents, precise_amount_cents=precise_cents, in_unit=owed.in_unit
        )

    @property
    def priced_cents(self) -> tuple[int, Decimal]:
        """Whole and precise, in hundredths of the charge's unit where it has one."""
        if self.in_unit is None:
            return self.amount_cents, self.precise_amount_cents
        return self.in_unit.amounts.amount_cents, self.in_unit.amounts.precise_amount_cents

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing in it: invoices leave such a fee out, usage shows it."""
        return not (self.units or self.amount_cents or self.events_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A price of a charge: of one filter, or of what no filter wants."""

    charge_filter_id: Id | None
    invoice_display_name: str | None
    group_keys: tuple[str, ...]
    model: ChargeModel
    pricer: Pricer
    idle: Price
    idle_owed: Owed
    """The price of no usage: flat amounts are due all the same."""
    properties: Mapping[str, Any]
    reads_events: bool
    """Whether the price depends on single events."""
    is_unpriced: bool = False
    """Whether nobody has decided what its usage costs."""
    is_held: bool = False
    """Whether an invoice with its usage waits until somebody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledCharge:
    """A charge made ready to price many subscriptions: prices read, filters resolved, matches remembered."""

    charge_id: Id
    aggregation: Aggregation
    rounding_function: str | None
    rounding_precision: int | None
    subunits: int
    """Of the currency."""
    applied_pricing_unit: AppliedPricingUnit | None
    """What the prices are in, if not in the currency."""
    prorated: bool
    pay_in_advance: bool
    needs_value: bool = False
    """Whether an event without a value is left out of a unique count, as where it is paid in advance."""
    min_amount_cents: int
    """The least that a whole period costs, over all buckets, in hundredths of the pricing unit if there is one."""
    buckets: tuple[Bucket, ...]
    """One for each filter in order, then the default one."""
    filter_keys: tuple[str, ...]
    bucket_of: Callable[[tuple[str | None, ...]], int]
    """Texts of the filter_keys -> index of the bucket."""
    presentation_keys: PresentationKeys
    aggregator: Aggregator | None = None
    """The rules of a custom aggregation."""
    rounding: Rounding = Rounding.PER_FEE

    @property
    def priced_subunits(self) -> int:
        """Of what the prices are in."""
        return self.subunits if self.applied_pricing_unit is None else SUBUNITS

    def owed(self, amount: Decimal, unit_amount: Decimal) -> Owed:
        """What a fee states of amounts in major units of what the prices are in. Call under exact()."""
        return owed(amount, unit_amount, per_unit=self.subunits, applied=self.applied_pricing_unit)

    def costs(self, due: Owed) -> bool:
        """Whether a line of nothing else is on a bill: for cents, or for what adds up to cents with other lines."""
        if self.rounding is Rounding.PER_FEE:
            return bool(due.money.amount_cents)
        amounts = due.in_unit.amounts if due.in_unit else due.money
        return bool(amounts.precise_amount_cents)

    def is_billed(self, fee: Fee) -> bool:
        """Whether an invoice shows the fee."""
        return not fee.is_idle or self.costs(fee.owed)


def compile_charge(
    *,
    charge_id: Id,
    model: ChargeModel,
    properties: Mapping[str, Any],
    filters: Sequence[ChargeFilter],
    aggregation: Aggregation,
    currency: str,
    rounding_function: str | None = None,
    rounding_precision: int | None = None,
    invoice_display_name: str | None = None,
    prorated: bool = False,
    pay_in_advance: bool = False,
    min_amount_cents: int = 0,
    applied_pricing_unit: AppliedPricingUnit | None = None,
    aggregator: Aggregator | None = None,
    unlisted_values: UnlistedValues = UnlistedValues.FREE,
    rounding: Rounding = Rounding.PER_FEE,
) -> CompiledCharge:
    """Read a charge once for charge_fees. Properties are valid, filter values expanded."""
    filter_keys = tuple(sorted({key for each in filters for key in each.values}))
    priced = [(each.id, each.invoice_display_name, each.properties) for each in filters]
    per_unit = subunits(currency)
    *listed, unlisted = [
        _bucket(filter_id, name, model, own, per_unit=per_unit, applied=applied_pricing_unit)
        for filter_id, name, own in [*priced, (None, invoice_display_name, properties)]
    ]
    if filters:
        unlisted = replace(
            unlisted,
            is_unpriced=is_unpriced(unlisted_values, model, properties),
            is_held=unlisted_values is UnlistedValues.HELD,
        )
    return CompiledCharge(
        charge_id=charge_id,
        aggregation=aggregation,
        rounding_function=rounding_function,
        rounding_precision=rounding_precision,
        subunits=per_unit,
        applied_pricing_unit=applied_pricing_unit,
        prorated=prorated,
        pay_in_advance=pay_in_advance,
        needs_value=pay_in_advance,
        min_amount_cents=min_amount_cents,
        buckets=(*listed, unlisted),
        filter_keys=filter_keys,
        bucket_of=_bucket_finder(filters, filter_keys),
        presentation_keys=presentation_keys(properties),
        aggregator=aggregator,
        rounding=rounding,
    )


def compile_standing_charge(standing: Charge, *, currency: str) -> CompiledCharge:
    """A charge in advance as it prices what a new period begins with: what no event has paid is not in that."""
    return replace(compile_plan_charge(standing, currency=currency), needs_value=True)


def compile_plan_charge(charge: Charge, *, currency: str) -> CompiledCharge:
    """A plan's charge in the plan's currency, made ready for charge_fees."""
    metric = charge.metric
    return compile_charge(
        charge_id=charge.id,
        model=ChargeModel(charge.charge_model),
        properties=charge.properties,
        filters=expanded_filters(charge),
        aggregation=metric.aggregation,
        currency=currency,
        rounding_function=metric.rounding_function,
        rounding_precision=metric.rounding_precision,
        invoice_display_name=charge.invoice_display_name,
        prorated=charge.prorated,
        pay_in_advance=charge.pay_in_advance,
        min_amount_cents=charge.min_amount_cents,
        applied_pricing_unit=charge.applied_pricing_unit,
        aggregator=aggregator_of(metric),
        unlisted_values=UnlistedValues(charge.unlisted_values),
        rounding=Rounding(charge.rounding),
    )


def _bucket(
    filter_id: Id | None,
    name: str | None,
    model: ChargeModel,
    properties: Mapping[str, Any],
    *,
    per_unit: int,
    applied: AppliedPricingUnit | None,
) -> Bucket:
    read = pricer(model, properties)
    with exact():
        idle = read(Quantity(units=ZERO))
        idle_owed = owed(idle.amount, idle.unit_amount, per_unit=per_unit, applied=applied)
    return Bucket(
        charge_filter_id=filter_id,
        invoice_display_name=name,
        group_keys=pricing_keys(properties),
        model=model,
        pricer=read,
        idle=idle,
        idle_owed=idle_owed,
        properties=properties,
        reads_events=model is ChargeModel.PERCENTAGE and percentage.needs_event_values(properties),
    )


def _bucket_finder(
    filters: Sequence[ChargeFilter], keys: tuple[str, ...]
) -> Callable[[tuple[str | None, ...]], int]:
    return lru_cache(maxsize=_BUCKETS_REMEMBERED)(filter_finder(filters, keys))


def charge_fees(
    charge: CompiledCharge,
    series: Iterable[tuple[Dimensions, Partial]],
    *,
    subscription_id: Id,
    period: Period,
    period_seconds: int | None = None,
    proration: Proration | None = None,
    with_idle: bool = True,
    held: Mapping[Place, Held] | None = None,
) -> list[Fee]:
    """Price what one subscription used of a charge's metric in a period.

    One fee for each filter in order, then for the default bucket, and in each for every pricing group that
    has usage; a bucket without usage has one idle fee, its group values None. `series` are the sums of
    events by their dimensions. `period_seconds`, of the whole billing period, is for weighted sums, `proration`
    for prorated charges. Without idle ones only what an invoice has: fees with units, events or an amount. `held`
    is what a charge in advance is priced by, where that is known without the changes in the series.
    """

    def fees_of(some: Iterable[tuple[Dimensions, Partial]], *, with_idle: bool) -> list[Fee]:
        usage = _usage_by_bucket(charge, some, paid_from=period.from_ if charge.pay_in_advance else None)
        return [
            _charge_fee(
                charge,
                bucket,
                group=group,
                partial=partial,
                subscription_id=subscription_id,
                period=period,
                period_seconds=period_seconds,
                proration=proration,
                held=None if held is None else held.get((i, group), NOTHING_HELD),
            )
            for i, bucket in enumerate(charge.buckets)
            for group, partial in usage.get(i) or _unused(charge, bucket, with_idle=with_idle)
        ]

    with exact():
        if not charge.presentation_keys.names:
            return round_fees(charge, fees_of(series, with_idle=with_idle))
        read = list(series)
        found: dict[tuple[Any, ...], list[Breakdown]] = defaultdict(list)
        for shown, some in _by_presentation(charge, read):
            for fee in fees_of(some, with_idle=False):
                if fee.events_count or fee.units:
                    found[_place(fee)].append(Breakdown(presentation_by=shown, units=fee.units))
        return [
            replace(fee, presentation=presentation(charge, found[_place(fee)]))
            for fee in round_fees(charge, fees_of(read, with_idle=with_idle))
        ]


def round_fees(charge: CompiledCharge, fees: Sequence[Fee]) -> list[Fee]:
    """The charge's fees of one bill, rounded as the charge says."""
    if charge.rounding is Rounding.PER_FEE:
        return list(fees)
    lines = round_together([fee.owed for fee in fees], per_unit=charge.subunits)
    return [replace(fee.owing(line), rounding=charge.rounding) for fee, line in zip(fees, lines, strict=True)]


def carry_fee_on(fee: Fee, earlier: Earlier, *, per_unit: int) -> Fee:
    """A fee of a charge that is rounded with those before it."""
    line = carry_on(fee.owed, earlier, per_unit=per_unit)
    return replace(fee.owing(line), rounding=Rounding.PER_CHARGE, earlier=earlier)


def _place(fee: Fee) -> tuple[Any, ...]:
    return fee.charge_filter_id, *fee.grouped_by.items()


def _by_presentation(
    charge: CompiledCharge, series: Iterable[tuple[Dimensions, Partial]]
) -> list[tuple[dict[str, str], list[tuple[Dimensions, Partial]]]]:
    """The series by the values of the properties that only show, in the order of the values."""
    split: dict[tuple[str, ...], list[tuple[Dimensions, Partial]]] = defaultdict(list)
    for dimensions, own in series:
        split[tuple(shown_by(charge, dimensions).values())].append((dimensions, own))
    return [
        (dict(zip(charge.presentation_keys.names, texts, strict=True)), split[texts])
        for texts in sorted(split, key=lambda texts: [(not text, text) for text in texts])
    ]


def shown_by(charge: CompiledCharge, dimensions: Dimensions) -> dict[str, str]:
    """What events with these property texts are shown by."""
    return {name: dimensions.get(name) or "" for name in charge.presentation_keys.names}


def presentation(charge: CompiledCharge, breakdowns: Iterable[Breakdown]) -> Presentation | None:
    """Of one of the charge's fees."""
    keys = charge.presentation_keys
    return Presentation(breakdowns=tuple(breakdowns), on_invoice=keys.on_invoice) if keys.names else None


def _unused(charge: CompiledCharge, bucket: Bucket, *, with_idle: bool) -> list[tuple[Group, Partial]]:
    """What stands for a bucket without usage, which may cost something all the same."""
    if with_idle or charge.costs(bucket.idle_owed):
        return [(group_of({}, bucket.group_keys), EMPTY)]
    return []


def _usage_by_bucket(
    charge: CompiledCharge, series: Iterable[tuple[Dimensions, Partial]], *, paid_from: datetime | None
) -> dict[int, list[tuple[Group, Partial]]]:
    found: dict[int, dict[Group, Partial]] = {}
    for dimensions, events in series:
        partial = counted_by(charge, events)
        if not charge.aggregation.events_counted(partial):
            continue
        i, group = series_place(charge, dimensions)
        groups = found.setdefault(i, {})
        groups[group] = merge(groups[group], partial) if group in groups else partial
    if charge.aggregator is not None:
        found = {
            i: _folded(charge.aggregator, charge.buckets[i], groups, paid_from) for i, groups in found.items()
        }
    return {
        i: sorted(groups.items(), key=_by_texts) if len(groups) > 1 else list(groups.items())
        for i, groups in found.items()
        if groups
    }


def counted_by(charge: CompiledCharge, partial: Partial) -> Partial:
    """The part of some usage that counts for the charge."""
    return charge.aggregation.paid_in_advance(partial) if charge.needs_value else partial


def _folded(
    aggregator: Aggregator, bucket: Bucket, groups: Mapping[Group, Partial], paid_from: datetime | None
) -> dict[Group, Partial]:
    """Each group by the metric's own rules with the bucket's own properties; without those in which no event counts."""
    folded = {
        group: fold(aggregator, partial.custom_events, bucket.properties, paid_from=paid_from)
        for group, partial in groups.items()
    }
    return {group: partial for group, partial in folded.items() if partial.events_count}


def series_place(charge: CompiledCharge, dimensions: Dimensions) -> Place:
    """Where a series counts: the index of its bucket, and its pricing group there."""
    i = charge.bucket_of(tuple([dimensions.get(key) for key in charge.filter_keys]))
    keys = charge.buckets[i].group_keys
    return i, group_of(dimensions, keys) if keys else ()


def _by_texts(item: tuple[Group, Partial]) -> list[tuple[bool, str]]:
    """Groups by their values, None last."""
    return [(text is None, text or "") for _, text in item[0]]


def _charge_fee(
    charge: CompiledCharge,
    bucket: Bucket,
    *,
    group: Group,
    partial: Partial,
    subscription_id: Id,
    period: Period,
    period_seconds: int | None,
    proration: Proration | None,
    held: Held | None,
) -> Fee:
    usage, price, due = NO_USAGE, bucket.idle, bucket.idle_owed
    if partial is not EMPTY:
        usage = _usage(charge, partial, period, period_seconds)
        price = bucket.pricer(
            _priced_quantity(charge, bucket, partial, usage, period=period, proration=proration, held=held)
        )
        if charge.pay_in_advance:
            usage = replace(usage, units=max(usage.units, ZERO))
        if usage.units < 0 or price.amount < 0:
            usage, due = charge.aggregation.nothing_owed(usage), charge.owed(ZERO, ZERO)
        else:
            due = charge.owed(price.amount, price.unit_amount)
    is_used = bool(usage.units or usage.events_count)
    return Fee(
        kind="charge",
        subscription_id=subscription_id,
        charge_id=charge.charge_id,
        charge_filter_id=bucket.charge_filter_id,
        invoice_display_name=bucket.invoice_display_name,
        units=usage.units,
        events_count=usage.events_count,
        total_aggregated_units=usage.total_aggregated_units,
        amount_cents=due.money.amount_cents,
        precise_amount_cents=due.money.precise_amount_cents,
        unit_amount_cents=due.money.unit_amount_cents,
        precise_unit_amount=due.money.precise_unit_amount,
        amount_details=price.details,
        grouped_by=dict(group),
        from_=period.from_,
        to=period.to,
        in_unit=due.in_unit,
        is_unpriced=bucket.is_unpriced and is_used,
        is_held=bucket.is_held and is_used,
    )


def _priced_quantity(
    charge: CompiledCharge,
    bucket: Bucket,
    partial: Partial,
    usage: Usage,
    *,
    period: Period,
    proration: Proration | None,
    held: Held | None,
) -> Quantity:
    if charge.pay_in_advance and charge.aggregation.may_fall:
        by = proration if charge.prorated else None
        held = held or _held_of(charge, partial, usage, period=period, proration=by)
        return _held_quantity(charge, bucket, partial, usage, period=period, held=held)
    if charge.prorated:
        return _prorated_quantity(charge, partial, usage, period, proration)
    return _quantity(charge, bucket, partial, usage, period)


def _held_of(
    charge: CompiledCharge, partial: Partial, usage: Usage, *, period: Period, proration: Proration | None
) -> Held:
    if charge.aggregation.needs is Needs.UNIQUES:
        return held_uniques(partial.operations, usage.units, period=period, proration=proration)
    return held_sum(partial.values, partial.sum, period=period, proration=proration)


def _held_quantity(
    charge: CompiledCharge, bucket: Bucket, partial: Partial, usage: Usage, *, period: Period, held: Held
) -> Quantity:
    """What is paid in advance stays paid: units by the highest level of the period (section 5.12), and events as
    they were paid, in the order of arrival.
    """
    units = held.prorated if charge.prorated else held.units
    if charge.rounding_function is not None:
        units = rounded(units, charge.rounding_function, charge.rounding_precision)
    full_units = max(usage.units, ZERO) if charge.prorated else None
    if charge.aggregation.needs is Needs.UNIQUES:
        usage = replace(usage, units=held.units, events_count=int(held.units))
    else:
        usage = replace(usage, events_count=usage.events_count - held.free_events)
    if bucket.reads_events:
        partial = replace(partial, values=tuple(by_arrival(partial.values, period)))
    quantity = _quantity(charge, bucket, partial, usage, period)
    if charge.aggregation.needs is Needs.UNIQUES and bucket.reads_events:
        quantity = replace(quantity, counted_events=int(held.gained))
    return replace(quantity, units=units, full_units=full_units)


def _usage(charge: CompiledCharge, partial: Partial, period: Period, period_seconds: int | None) -> Usage:
    return charge.aggregation.aggregate(
        partial,
        rounding_function=charge.rounding_function,
        rounding_precision=charge.rounding_precision,
        period=period,
        period_seconds=period_seconds,
    )


def _quantity(
    charge: CompiledCharge, bucket: Bucket, partial: Partial, usage: Usage, period: Period
) -> Quantity:
    values: Sequence[Decimal] = ()
    totals: Sequence[Decimal] | range = ()
    counted = None
    if bucket.reads_events:
        if charge.aggregation.adds_one:
            totals = percentage.counted_totals(int(usage.units), bucket.properties)
            counted = partial.events_count - partial.standing_events_count
        else:
            totals = percentage.running_totals(charge.aggregation.running_values(partial), bucket.properties)
            values = charge.aggregation.event_values(partial, since=period.from_)
    return Quantity(
        units=usage.units,
        events_count=usage.events_count,
        precise_amount_cents=partial.precise_amount_cents,
        custom_amount=partial.custom_amount,
        subunits=charge.subunits,
        running_totals=totals,
        event_values=values,
        counted_events=counted,
    )


def _prorated_quantity(
    charge: CompiledCharge, partial: Partial, usage: Usage, period: Period, proration: Proration | None
) -> Quantity:
    if proration is None:
        raise ValueError("a prorated charge needs to know the days of its period")
    if charge.aggregation.needs is Needs.UNIQUES:
        prorated = prorate_uniques(partial.operations, period=period, by=proration)
    else:
        values = [each for each in partial.values if each[0] >= period.from_]
        base = partial.sum - sum((value for _, _, value in values), ZERO)
        prorated = prorate_sum(base, values, period=period, by=proration)
    units = prorated.units
    if charge.rounding_function is not None:
        units = rounded(units, charge.rounding_function, charge.rounding_precision)
    return Quantity(
        units=units,
        full_units=usage.units,
        changes=prorated.changes,
        days_in_period=proration.days_in_period,
        subunits=charge.subunits,
    )


def true_up_fee(
    charge: CompiledCharge, fees: Sequence[Fee], *, period: Period, proration: Proration
) -> Fee | None:
    """What a charge's fees of a period lack of its least amount, by the period's days; None when nothing is.

    Source: semantics-metering.md section 5.13.
    """
    least = proration.share(charge.min_amount_cents, period)
    priced = [fee.priced_cents for fee in fees]
    with exact():
        missing = least - sum(cents for cents, _ in priced)
        if missing <= 0:
            return None
        amount = Decimal(round_cents(missing)) / charge.priced_subunits
        money, in_unit = charge.owed(amount, amount)
        precise_cents = precise(least - sum((cents for _, cents in priced), ZERO))
        if in_unit is None:
            money = money._replace(precise_amount_cents=precise_cents)
        else:
            in_unit = InUnit(in_unit.applied, in_unit.amounts._replace(precise_amount_cents=precise_cents))
        if charge.rounding is Rounding.PER_CHARGE:
            earlier = sum_of_lines(fee.owed for fee in fees)
            money, in_unit = carry_on(Owed(money, in_unit), earlier, per_unit=charge.subunits)
    return replace(
        fees[-1],
        charge_filter_id=None,
        is_true_up=True,
        invoice_display_name=None,
        units=Decimal(1),
        events_count=0,
        total_aggregated_units=None,
        amount_cents=money.amount_cents,
        precise_amount_cents=money.precise_amount_cents,
        unit_amount_cents=money.amount_cents,
        precise_unit_amount=money.precise_unit_amount,
        amount_details={},
        grouped_by={},
        in_unit=in_unit,
        presentation=None,
        is_unpriced=False,
        is_held=False,
    )


def subscription_fee(
    *,
    subscription_id: Id,
    amount_cents: int,
    currency: str,
    period: Period,
    days: int,
    days_in_period: int,
    invoice_display_name: str | None = None,
) -> Fee:
    """The plan's own fee: the plan's amount by the days that are billed of the days in the whole period.

    `period` is what the fee covers. The share is exact, and rounded once, half away from zero; Lago
    multiplies a price per day in binary floating point.
    """
    per_unit = subunits(currency)
    with exact():
        amount = Decimal(amount_cents * days) / (days_in_period * per_unit)
        amounts = line_amounts(amount, amount, per_unit)
    return Fee(
        kind="subscription",
        subscription_id=subscription_id,
        charge_id=None,
        charge_filter_id=None,
        invoice_display_name=invoice_display_name,
        units=Decimal(1),
        events_count=None,
        total_aggregated_units=None,
        amount_cents=amounts.amount_cents,
        precise_amount_cents=amounts.precise_amount_cents,
        unit_amount_cents=amounts.amount_cents,
        precise_unit_amount=amounts.precise_unit_amount,
        amount_details={"plan_amount_cents": amount_cents},
        grouped_by={},
        from_=period.from_,
        to=period.to,
    )
