"""The quantity that a bucket's price is asked for: units, rounded, prorated or at their highest level, and single events.

Source: semantics-metering.md sections 2.5, 2.6, 5.11 and 5.12.
"""

from __future__ import annotations

from permille.core.metering.aggregations import Needs
from permille.core.metering.usage import (
    Partial,
    Usage,
    rounded,
)
from permille.core.money import ZERO
from permille.core.period import Period
from permille.core.rating.charge import Bucket, CompiledCharge
from permille.core.rating.level import PaidLevel, by_arrival, paid_level_of_sum, paid_level_of_uniques
from permille.core.rating.models import Quantity, percentage
from permille.core.rating.proration import Proration, RatedPeriod, prorate_sum, prorate_uniques


def quantity_of(
    charge: CompiledCharge,
    bucket: Bucket,
    partial: Partial,
    usage: Usage,
    *,
    rated: RatedPeriod,
    paid_level: PaidLevel | None,
) -> Quantity:
    """What the price of a bucket's usage depends on. `paid_level` is known where the usage does not hold every change."""
    period, proration = rated.period, rated.proration
    if charge.pay_in_advance and charge.aggregation.may_fall:
        by = proration if charge.prorated else None
        paid_level = paid_level or _paid_level_of(charge, partial, usage, period=period, proration=by)
        return _paid_quantity(charge, bucket, partial, usage, period=period, paid_level=paid_level)
    if charge.prorated:
        return _prorated_quantity(charge, partial, usage, period, proration)
    return _quantity(charge, bucket, partial, usage, period)


def _paid_level_of(
    charge: CompiledCharge, partial: Partial, usage: Usage, *, period: Period, proration: Proration | None
) -> PaidLevel:
    if charge.aggregation.needs is Needs.UNIQUES:
        return paid_level_of_uniques(partial.operations, usage.units, period=period, proration=proration)
    return paid_level_of_sum(partial.values, partial.sum, period=period, proration=proration)


def _paid_quantity(
    charge: CompiledCharge,
    bucket: Bucket,
    partial: Partial,
    usage: Usage,
    *,
    period: Period,
    paid_level: PaidLevel,
) -> Quantity:
    """What is paid in advance stays paid: units by the highest level of the period (semantics-metering.md 5.12), and events as
    they were paid, in the order of arrival.
    """
    units = paid_level.prorated if charge.prorated else paid_level.units
    if charge.rounding_function is not None:
        units = rounded(units, charge.rounding_function, charge.rounding_precision)
    full_units = max(usage.units, ZERO) if charge.prorated else None
    if charge.aggregation.needs is Needs.UNIQUES:
        usage = usage._replace(units=paid_level.units, events_count=int(paid_level.units))
    else:
        usage = usage._replace(events_count=usage.events_count - paid_level.free_events)
    if bucket.reads_events:
        partial = partial._replace(values=tuple(by_arrival(partial.values, period)))
    quantity = _quantity(charge, bucket, partial, usage, period)
    if charge.aggregation.needs is Needs.UNIQUES and bucket.reads_events:
        quantity = quantity._replace(counted_events=int(paid_level.gained))
    return quantity._replace(units=units, full_units=full_units)


def usage_of(charge: CompiledCharge, partial: Partial, rated: RatedPeriod) -> Usage:
    """Units and events of a bucket, rounded as the metric says."""
    return charge.aggregation.aggregate(
        partial,
        rounding_function=charge.rounding_function,
        rounding_precision=charge.rounding_precision,
        period=rated.period,
        period_seconds=rated.whole_seconds,
    )


def _quantity(
    charge: CompiledCharge, bucket: Bucket, partial: Partial, usage: Usage, period: Period
) -> Quantity:
    quantity = Quantity(
        usage.units,
        usage.events_count,
        partial.precise_amount_cents,
        charge.subunits,
        custom_amount=partial.custom_amount,
    )
    if not bucket.reads_events:
        return quantity
    if charge.aggregation.adds_one:
        return quantity._replace(
            running_totals=percentage.counted_totals(int(usage.units), bucket.properties),
            counted_events=partial.events_count - partial.carried_over_events_count,
        )
    running = charge.aggregation.running_values(partial)
    return quantity._replace(
        running_totals=percentage.running_totals(running, bucket.properties),
        event_values=charge.aggregation.event_values(partial, since=period.from_),
    )


def _prorated_quantity(
    charge: CompiledCharge, partial: Partial, usage: Usage, period: Period, proration: Proration
) -> Quantity:
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
