"""Charges paid in advance: an event makes a fee of its own, priced by what it adds to the period so far.

A fee is the price of everything up to its event less the price of everything before, so that the fees of a period
add up to the price of the whole, before each is rounded (core.rating.rounding). Events count in the order of arrival; Lago takes that of their own times, in which
a late event is priced as if those after it had not been. Source: semantics-metering.md section 5.12.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any

from permille.core.metering.aggregations import Needs
from permille.core.metering.custom_aggregation import Rules, custom_values, fold
from permille.core.metering.usage import AdvanceEvent, Partial, Usage, merge, rounded
from permille.core.money import ZERO, decimal_text, exact, line_amounts
from permille.core.period import Period
from permille.core.rating.charge import (
    Bucket,
    CompiledCharge,
    Dimensions,
    Place,
    bucket_fee,
    presentation,
    series_place,
    shown_by,
)
from permille.core.rating.fee import Breakdown, Fee
from permille.core.rating.filters import Group, Id
from permille.core.rating.level import (
    NOTHING_CARRIED_OVER,
    CarriedOver,
    Level,
    LevelState,
    PricedEvent,
    prorated_units,
)
from permille.core.rating.models import ChargeModel, Price, Quantity, model_of, percentage
from permille.core.rating.proration import Proration
from permille.core.rating.rounding import Rounding

_DIFFERENCES = {
    "units",
    "free_units",
    "paid_units",
    "free_events",
    "paid_events",
    "fixed_fee_total_amount",
    "min_max_adjustment_total_amount",
    "per_unit_total_amount",
    "total_with_flat_amount",
}
"""The details of a price that a fee states for its event alone; the others are terms."""


def event_fees(
    charge: CompiledCharge,
    events: Iterable[AdvanceEvent],
    *,
    billed: Collection[int],
    carried_over: Mapping[Place, CarriedOver],
    subscription_id: Id,
    period: Period,
    proration: Proration,
    reached: Mapping[Place, LevelState] = MappingProxyType({}),
) -> tuple[list[tuple[int, Fee]], dict[Place, LevelState]]:
    """The fees of those events whose seq is to be billed, with it; and what levels all of them have reached.

    `events` are all of the charge's metric in the period up to the last one billed, in the order of arrival, or
    those of them after which the levels had `reached` so far; `carried_over` is what a recurring metric had before.
    An event without a value has no fee.
    """
    levels: dict[Place, Level] = {}
    fees: list[tuple[int, Fee]] = []
    with exact():
        for event in events:
            place = series_place(charge, event.dimensions)
            bucket = charge.buckets[place[0]]
            if place not in levels:
                before = carried_over.get(place, NOTHING_CARRIED_OVER)
                levels[place] = _level(charge, bucket, before, reached.get(place))
            level = levels[place]
            counted = level.take(event) if event.seq in billed else level.count(event)
            if counted is None:
                continue
            if charge.prorated:
                level.prorated += prorated_units(counted.gained, event.at, period, proration)
            if isinstance(counted, PricedEvent):
                fee = _fee(
                    charge,
                    bucket,
                    counted,
                    group=place[1],
                    subscription_id=subscription_id,
                    period=period,
                    proration=proration,
                )
                fees.append((event.seq, fee))
    return fees, {**reached, **{place: level.reached for place, level in levels.items()}}


def carried_over_by_place(
    charge: CompiledCharge, series: Iterable[tuple[Dimensions, Partial]]
) -> dict[Place, CarriedOver]:
    """What a recurring metric carries over, by the places where its series count."""
    found: dict[Place, Partial] = {}
    for dimensions, partial_usage in series:
        place = series_place(charge, dimensions)
        found[place] = merge(found[place], partial_usage) if place in found else partial_usage
    return {place: _carried_over(charge, charge.buckets[place[0]], each) for place, each in found.items()}


def _carried_over(charge: CompiledCharge, bucket: Bucket, usage: Partial) -> CarriedOver:
    if charge.aggregation.needs is Needs.UNIQUES:
        return _carried_over_uniques(charge.aggregation.paid_in_advance(usage))
    if charge.aggregator is not None:
        usage = fold(charge.aggregator, usage.custom_events, bucket.properties)
    return CarriedOver(units=usage.sum, amount=usage.custom_amount)


def _carried_over_uniques(usage: Partial) -> CarriedOver:
    there = frozenset(value for value, (_, _, is_there) in usage.uniques.items() if is_there)
    return CarriedOver(units=Decimal(len(there)), values=there)


def _never(_count: int, _total: Decimal) -> bool:
    return False


def _level(
    charge: CompiledCharge, bucket: Bucket, carried_over: CarriedOver, reached: LevelState | None
) -> Level:
    remembers = percentage.allowance(bucket.properties) if bucket.reads_events else _never
    rules = Rules(charge.aggregator, custom_values(bucket.properties)) if charge.aggregator else None
    level = Level(aggregation=charge.aggregation, carried_over=carried_over, remembers=remembers, rules=rules)
    return level if reached is None else level.resume(reached)


def _fee(
    charge: CompiledCharge,
    bucket: Bucket,
    taken: PricedEvent,
    *,
    group: Group,
    subscription_id: Id,
    period: Period,
    proration: Proration,
) -> Fee:
    units = None
    if charge.prorated:
        units = prorated_units(taken.gained, taken.event.at, period, proration)
    if bucket.model is ChargeModel.CUSTOM:
        price = Price(taken.gained_amount, ZERO, {})
    else:
        price = _price(taken, partial(_read_price, charge, bucket), prorated=units)
    cents = line_amounts(price.amount, ZERO, charge.priced_subunits).amount_cents
    billed = Decimal(cents) / charge.priced_subunits if charge.rounding is Rounding.PER_FEE else price.amount
    due = charge.owed(price.amount, billed / taken.units if taken.units else ZERO)
    breakdown = Breakdown(presentation_by=shown_by(charge, taken.event.dimensions), units=taken.units)
    return bucket_fee(
        charge,
        bucket,
        due,
        usage=Usage(taken.units, 1, taken.units),
        subscription_id=subscription_id,
        group=group,
        period=period,
        amount_details=price.details if model_of(bucket.model).details_in_advance else {},
        pay_in_advance=True,
        presentation=presentation(charge, [breakdown]),
        is_unpriced=bucket.is_unpriced,
        is_held=bucket.is_held,
    )


def fee_of_nothing(
    charge: CompiledCharge,
    event: AdvanceEvent,
    *,
    subscription_id: Id,
    period: Period,
    proration: Proration,
) -> Fee:
    """The fee of an event that costs nothing: its place, and nothing to pay."""
    index, group = series_place(charge, event.dimensions)
    taken = PricedEvent(
        event=event, change=ZERO, gained=ZERO, before=None, after=Quantity(units=ZERO), is_free=True
    )
    return _fee(
        charge,
        charge.buckets[index],
        taken,
        group=group,
        subscription_id=subscription_id,
        period=period,
        proration=proration,
    )


def instant_fee(
    charge: CompiledCharge, event: AdvanceEvent, *, units: Decimal, subscription_id: Id, period: Period
) -> Fee:
    """An event priced alone, by the rate and the bounds of its price, without any allowance (semantics-metering.md 1.10).

    `units` are rounded as the metric says; negative ones cost nothing.
    """
    index, _ = series_place(charge, event.dimensions)
    bucket = charge.buckets[index]
    with exact():
        if charge.rounding_function is not None:
            units = rounded(units, charge.rounding_function, charge.rounding_precision)
        price = _instant_price(bucket, units)
        due = charge.owed(max(price.amount, ZERO), max(price.unit_amount, ZERO))
    return bucket_fee(
        charge,
        bucket,
        due,
        usage=Usage(units, 1, units),
        subscription_id=subscription_id,
        group=(),
        period=period,
        amount_details={},
        pay_in_advance=True,
    )


def units_alone(charge: CompiledCharge, event: AdvanceEvent) -> Decimal:
    """What the rules of a custom aggregation make of an event that comes first; nothing where they have no value."""
    index, _ = series_place(charge, event.dimensions)
    level = _level(charge, charge.buckets[index], NOTHING_CARRIED_OVER, None)
    with exact():
        level.count(event)
    return level.units


def _instant_price(bucket: Bucket, units: Decimal) -> Price:
    if bucket.model is ChargeModel.PERCENTAGE:
        return percentage.price_alone(units, bucket.properties) if units >= 0 else Price(ZERO, ZERO, {})
    return bucket.pricer(Quantity(units=max(units, ZERO)))


def _read_price(charge: CompiledCharge, bucket: Bucket, quantity: Quantity) -> Price:
    quantity = quantity._replace(subunits=charge.subunits)
    if bucket.reads_events and charge.aggregator is None:  # to a custom aggregation they never apply
        totals = percentage.running_totals(quantity.event_values, bucket.properties)
        quantity = quantity._replace(running_totals=totals)
    return bucket.pricer(quantity)


def _price(taken: PricedEvent, price: Callable[[Quantity], Price], *, prorated: Decimal | None) -> Price:
    """What the event costs, in major units."""
    if taken.is_free:
        return Price(ZERO, ZERO, {})
    if prorated is not None:
        return price(Quantity(units=prorated, full_units=taken.gained))
    after = price(taken.after)
    if taken.before is None:
        return after
    before = price(taken.before)
    details = _details_between(before.details, after.details)
    return Price(max(after.amount - before.amount, ZERO), ZERO, details)


def _details_between(before: Any, after: Any) -> Any:
    """What the details of a price say more than those of the price before."""
    if isinstance(after, Mapping):
        known = before if isinstance(before, Mapping) else {}
        return {
            key: _difference(known.get(key), value)
            if key in _DIFFERENCES
            else _details_between(known.get(key), value)
            for key, value in after.items()
        }
    if isinstance(after, list):
        lines = before if isinstance(before, list) else []
        return [_details_between(lines[i] if i < len(lines) else None, line) for i, line in enumerate(after)]
    return after


def _difference(before: Any, after: Any) -> Any:
    if isinstance(after, str):
        return decimal_text(Decimal(after) - Decimal(before or 0))
    return after - (before or 0)
