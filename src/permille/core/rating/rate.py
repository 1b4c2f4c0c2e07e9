"""Rating: what a subscription used of a charge's metric becomes fees. Bills, renewals in advance, current usage,
explanations, late usage and previews all call `rate`; fees of single events are in core.rating.advance.

Every bucket is aggregated and priced by itself, and rounded by itself or, where the charge says so, with the others
(core.rating.rounding); the total is the sum of the rounded fees.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from permille.core.metering.custom_aggregation import Aggregator, fold
from permille.core.metering.usage import (
    EMPTY,
    NO_USAGE,
    Partial,
    Usage,
    merged,
    rounded,
)
from permille.core.money import ZERO, exact, whole_cents
from permille.core.period import Period
from permille.core.rating.charge import (
    Bucket,
    CompiledCharge,
    Dimensions,
    Place,
    bucket_fee,
    counted_by,
    presentation,
    series_place,
    shown_by,
)
from permille.core.rating.fee import Breakdown, Fee
from permille.core.rating.filters import Group, Id, group_of
from permille.core.rating.level import NOTHING_PAID, PaidLevel
from permille.core.rating.models import ChargeModel, Price, Quantity
from permille.core.rating.pricing_unit import InUnit, Owed
from permille.core.rating.proration import RatedPeriod
from permille.core.rating.quantity import quantity_of, usage_of
from permille.core.rating.rounding import Rounding, round_together
from permille.core.record import replace


def rate(
    charge: CompiledCharge,
    series: Iterable[tuple[Dimensions, Partial]],
    *,
    subscription_id: Id,
    rated: RatedPeriod,
    with_idle: bool = True,
    paid_levels: Mapping[Place, PaidLevel] | None = None,
) -> list[Fee]:
    """Price what one subscription used of a charge's metric in a period.

    One fee for each filter in order, then for the default bucket, and in each for every pricing group that
    has usage; a bucket without usage has one idle fee, its group values None. `series` are the sums of
    events by their dimensions. Without idle ones only what an invoice has: fees with units, events or an amount.
    `paid_levels` is what a charge in advance is priced by, where that is known without the changes in the series.
    """

    def fees_of(some: Iterable[tuple[Dimensions, Partial]], *, with_idle: bool) -> list[Fee]:
        priced = price_usage(charge, some, rated=rated, with_idle=with_idle, paid_levels=paid_levels)
        return [_fee(charge, each, subscription_id, rated.period) for each in priced]

    with exact():
        if not charge.presentation_keys.names:
            return round_fees(charge, _due(charge, fees_of(series, with_idle=with_idle), with_idle=with_idle))
        read = list(series)
        found: dict[tuple[Any, ...], list[Breakdown]] = defaultdict(list)
        for shown, some in _by_presentation(charge, read):
            for fee in fees_of(some, with_idle=False):
                if fee.events_count or fee.units:
                    found[_place(fee)].append(Breakdown(presentation_by=shown, units=fee.units))
        return [
            replace(fee, presentation=presentation(charge, found[_place(fee)]))
            for fee in round_fees(
                charge, _due(charge, fees_of(read, with_idle=with_idle), with_idle=with_idle)
            )
        ]


class PricedUsage(NamedTuple):
    """What a pricing group of a bucket has used and its price: all that a fee is made of."""

    bucket: Bucket
    group: Group
    usage: Usage
    price: Price

    @property
    def is_unpriced(self) -> bool:
        """Whether it is usage that nobody has decided the price of."""
        return (self.bucket.is_unpriced or self.price.is_unpriced) and self._is_used

    @property
    def is_held(self) -> bool:
        """Whether its invoice waits until somebody has."""
        return (self.bucket.is_held or self.price.is_held) and self._is_used

    @property
    def _is_used(self) -> bool:
        return bool(self.usage.units or self.usage.events_count)

    def owed(self, charge: CompiledCharge) -> Owed:
        """The money of its line, rounded by itself. Call under exact()."""
        return charge.owed(self.price.amount, self.price.unit_amount)

    def owed_cents(self, charge: CompiledCharge) -> tuple[int, InUnit | None]:
        """What is paid of it, and what that was converted from."""
        if charge.applied_pricing_unit is None:
            return whole_cents(self.price.amount * charge.subunits), None
        owed = self.owed(charge)
        return owed.money.amount_cents, owed.in_unit


def owed_cents(charge: CompiledCharge, priced: Sequence[PricedUsage]) -> Iterator[tuple[int, InUnit | None]]:
    """What is paid of each line of one bill, and what that was converted from. Go through it under exact()."""
    if charge.rounding is Rounding.PER_FEE:
        return (each.owed_cents(charge) for each in priced)
    lines = round_together([each.owed(charge) for each in priced], per_unit=charge.subunits)
    return ((line.money.amount_cents, line.in_unit) for line in lines)


def price_usage(
    charge: CompiledCharge,
    series: Iterable[tuple[Dimensions, Partial]],
    *,
    rated: RatedPeriod,
    with_idle: bool = True,
    paid_levels: Mapping[Place, PaidLevel] | None = None,
) -> Iterator[PricedUsage]:
    """What `rate` makes fees of, in their order, each by itself. Go through it under exact()."""
    if charge.is_renewal:
        rated = replace(rated, proration=replace(rated.proration, spares_last_day=False))
    paid_from = rated.period.from_ if charge.pay_in_advance else None
    for i, bucket, found in usage_by_bucket(charge, series, with_idle=with_idle, paid_from=paid_from):
        if _is_priced_by_units(charge, bucket):
            yield from _priced_by_units(charge, bucket, found)
            continue
        for group, partial in found:
            paid_level = None if paid_levels is None else paid_levels.get((i, group), NOTHING_PAID)
            yield _priced(charge, bucket, group, partial, rated=rated, paid_level=paid_level)


def _due(charge: CompiledCharge, fees: Sequence[Fee], *, with_idle: bool) -> Sequence[Fee]:
    """The fees of a renewal in which there is something to pay: units, or an amount that depends on none.

    Idle ones are kept where they are asked for, but for fees that are rounded together: there each takes its cents.
    """
    if not charge.is_renewal:
        return fees
    paid = [replace(fee, pay_in_advance=True) for fee in fees]
    if with_idle and charge.rounding is Rounding.PER_FEE:
        return paid
    by_rule = charge.buckets[0].model is ChargeModel.CUSTOM
    return [fee for fee in paid if fee.units or (by_rule and charge.costs(fee.owed))]


def round_fees(charge: CompiledCharge, fees: Sequence[Fee]) -> list[Fee]:
    """The charge's fees of one bill, rounded as the charge says."""
    if charge.rounding is Rounding.PER_FEE:
        return list(fees)
    lines = round_together([fee.owed for fee in fees], per_unit=charge.subunits)
    return [fee.owing(line, rounding=charge.rounding) for fee, line in zip(fees, lines, strict=True)]


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


def _unused(charge: CompiledCharge, bucket: Bucket, *, with_idle: bool) -> list[tuple[Group, Partial]]:
    """The entry of a bucket without usage, which may cost something all the same."""
    if with_idle or charge.costs(bucket.idle_owed):
        return [(group_of({}, bucket.group_keys), EMPTY)]
    return []


def usage_by_bucket(
    charge: CompiledCharge,
    series: Iterable[tuple[Dimensions, Partial]],
    *,
    with_idle: bool,
    paid_from: datetime | None = None,
) -> Iterator[tuple[int, Bucket, Sequence[tuple[Group, Partial]]]]:
    """What the groups of each bucket have used, in the order of their fees; `paid_from` is the period's beginning in advance."""
    used = _used(charge, series, paid_from=paid_from)
    for i, bucket in enumerate(charge.buckets):
        yield i, bucket, used.get(i) or _unused(charge, bucket, with_idle=with_idle)


def _used(
    charge: CompiledCharge, series: Iterable[tuple[Dimensions, Partial]], *, paid_from: datetime | None
) -> dict[int, list[tuple[Group, Partial]]]:
    found: dict[int, dict[Group, Partial]] = defaultdict(dict)
    several: dict[Place, list[Partial]] = {}
    counted = charge.aggregation.events_counted
    for dimensions, events in series:
        partial = counted_by(charge, events)
        if not counted(partial):
            continue
        i, group = series_place(charge, dimensions)
        groups = found[i]
        if group in groups:
            several.setdefault((i, group), [groups[group]]).append(partial)
        else:
            groups[group] = partial
    for (i, group), partials in several.items():
        found[i][group] = merged(partials)
    if charge.aggregator is not None:
        found = {
            i: _folded(charge.aggregator, charge.buckets[i], groups, paid_from) for i, groups in found.items()
        }
    return {i: _in_order(groups) for i, groups in found.items() if groups}


def _folded(
    aggregator: Aggregator, bucket: Bucket, groups: Mapping[Group, Partial], paid_from: datetime | None
) -> dict[Group, Partial]:
    """Each group by the metric's own rules with the bucket's own properties; without those in which no event counts."""
    folded = {
        group: fold(aggregator, partial.custom_events, bucket.properties, paid_from=paid_from)
        for group, partial in groups.items()
    }
    return {group: partial for group, partial in folded.items() if partial.events_count}


def _in_order(groups: Mapping[Group, Partial]) -> list[tuple[Group, Partial]]:
    """In the order of by_texts. Most groups are by one key, of which only None is no text: it would be first."""
    found = list(groups.items())
    if len(found) < 2:
        return found
    if len(found[0][0]) > 1:
        return sorted(found, key=lambda item: by_texts(item[0]))
    found.sort(key=lambda item: item[0][0][1] or "")
    if found[0][0][0][1] is None:
        found.append(found.pop(0))
    return found


def by_texts(group: Group) -> list[tuple[bool, str]]:
    """The order of groups: by their values, None last."""
    return [(text is None, text or "") for _, text in group]


def _priced(
    charge: CompiledCharge,
    bucket: Bucket,
    group: Group,
    partial: Partial,
    *,
    rated: RatedPeriod,
    paid_level: PaidLevel | None,
) -> PricedUsage:
    if partial is EMPTY:
        return PricedUsage(bucket, group, NO_USAGE, bucket.idle)
    usage = usage_of(charge, partial, rated)
    quantity = quantity_of(charge, bucket, partial, usage, rated=rated, paid_level=paid_level)
    price = bucket.pricer(quantity._replace(group=dict(group)) if bucket.placed else quantity)
    if charge.pay_in_advance:
        usage = usage._replace(units=max(usage.units, ZERO))
    if usage.units < 0 or price.amount < 0:
        usage, price = charge.aggregation.nothing_owed(usage), price._replace(amount=ZERO, unit_amount=ZERO)
    return PricedUsage(bucket, group, usage, price)


def _is_priced_by_units(charge: CompiledCharge, bucket: Bucket) -> bool:
    """Whether nothing but units, the number of events, their own amounts and the group makes its prices."""
    looks_at_more = charge.pay_in_advance or charge.prorated or charge.aggregator is not None
    return not looks_at_more and charge.aggregation.is_units_alone and not bucket.reads_events


def _priced_by_units(
    charge: CompiledCharge, bucket: Bucket, found: Iterable[tuple[Group, Partial]]
) -> Iterator[PricedUsage]:
    """As `_priced`, of a bucket of which that is true: there may be ten thousand groups, and most are so."""
    units_of, events_counted = charge.aggregation.units, charge.aggregation.events_counted
    pricer, per_unit = bucket.pricer, charge.subunits
    function, precision = charge.rounding_function, charge.rounding_precision
    for group, partial in found:
        if partial is EMPTY:
            yield PricedUsage(bucket, group, NO_USAGE, bucket.idle)
            continue
        units = units_of(partial)
        if function is not None:
            units = rounded(units, function, precision)
        events = events_counted(partial)
        usage = Usage(units, events, units)
        quantity = Quantity(units, events, partial.precise_amount_cents, per_unit)
        price = pricer(quantity._replace(group=dict(group)) if bucket.placed else quantity)
        if units < ZERO or price.amount < ZERO:
            usage = charge.aggregation.nothing_owed(usage)
            price = price._replace(amount=ZERO, unit_amount=ZERO)
        yield PricedUsage(bucket, group, usage, price)


def _fee(charge: CompiledCharge, priced: PricedUsage, subscription_id: Id, period: Period) -> Fee:
    bucket, group, usage, price = priced
    return bucket_fee(
        charge,
        bucket,
        priced.owed(charge),
        usage=usage,
        subscription_id=subscription_id,
        group=group,
        period=period,
        amount_details=price.details,
        is_unpriced=priced.is_unpriced,
        is_held=priced.is_held,
    )
