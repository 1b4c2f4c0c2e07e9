"""Linear charges: what many subscriptions owe for usage of one place of a charge, without a fee for each.

A line is units times a price that all lines of a place have. They are rounded as `rate` does it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, Inexact, getcontext
from typing import NamedTuple

from permille.core.metering.aggregations import COUNT, SUM
from permille.core.metering.usage import Partial
from permille.core.money import ZERO, apportion, exact, precise_cents, whole_cents
from permille.core.rating.charge import Bucket, CompiledCharge, Dimensions, Place
from permille.core.rating.filters import Group
from permille.core.rating.models import Quantity, model_of
from permille.core.rating.rate import by_texts, usage_by_bucket
from permille.core.rating.rounding import Rounding

Used = tuple[Sequence[int], Sequence[Decimal]]
"""Numbers of those who used something, and the units of each."""

_ONE = Decimal(1)


def is_linear(charge: CompiledCharge) -> bool:
    """Whether `line_cents` knows what its lines come to, of usage that begins in the period."""
    return (
        charge.aggregation in (SUM, COUNT)
        and charge.rounding_function is None
        and charge.applied_pricing_unit is None
        and not (charge.prorated or charge.pay_in_advance or charge.is_renewal)
        and all(model_of(bucket.model).is_linear for bucket in charge.buckets)
    )


class Column(NamedTuple):
    """What the groups of a bucket have used and owe, in the order of their fees."""

    bucket: Bucket
    groups: Sequence[Group]
    units: Sequence[Decimal]
    events_counts: Sequence[int]
    cents: Sequence[int]


def has_one_price(charge: CompiledCharge) -> bool:
    """Whether `price_columns` prices it: it is linear, and all groups of a bucket pay the same for a unit."""
    return is_linear(charge) and not any(model_of(bucket.model).priced_by for bucket in charge.buckets)


def price_columns(charge: CompiledCharge, series: Iterable[tuple[Dimensions, Partial]]) -> Iterator[Column]:
    """What `price_usage` finds of a charge of which that is true, each line rounded by itself. Call under exact()."""
    for i, bucket, found in usage_by_bucket(charge, series, with_idle=True):
        groups = [group for group, _ in found]
        events_counts = [charge.aggregation.events_counted(partial) for _, partial in found]
        units = [max(charge.aggregation.units(partial), ZERO) for _, partial in found]
        cents = [whole_cents(each) for each in _amounts(charge, (i, ()), units)]
        yield Column(bucket, groups, units, events_counts, cents)


def units_of(charge: CompiledCharge, events_counts: Iterable[int], sums: Iterable[Decimal]) -> list[Decimal]:
    """The units of usage of a linear charge, in the same order."""
    return list(map(Decimal, events_counts)) if charge.aggregation is COUNT else list(sums)


def line_cents(
    charge: CompiledCharge, used: Mapping[Place, Used]
) -> list[tuple[Place, Sequence[int], list[int]]]:
    """What the lines of each place of a linear charge owe, and whose they are. In a place everybody has one at most."""
    with exact():
        if charge.rounding is Rounding.PER_CHARGE:
            return _rounded_together(charge, used)
        return [
            (place, whose, [whole_cents(each) for each in _amounts(charge, place, units)])
            for place, (whose, units) in used.items()
        ]


def _rounded_together(
    charge: CompiledCharge, used: Mapping[Place, Used]
) -> list[tuple[Place, Sequence[int], list[int]]]:
    """The same, where the lines of each share the cents of their sum. Idle ones would have no share."""
    amounts: dict[int, list[Decimal]] = defaultdict(list)
    places = sorted(used, key=lambda place: (place[0], by_texts(place[1])))
    for place in places:
        whose, units = used[place]
        for each, amount in zip(whose, _amounts(charge, place, units), strict=True):
            amounts[each].append(precise_cents(amount))
    shares = {each: iter(apportion(own)) for each, own in amounts.items()}
    return [(place, used[place][0], [next(shares[each]) for each in used[place][0]]) for place in places]


def _amounts(charge: CompiledCharge, place: Place, units: Sequence[Decimal]) -> list[Decimal]:
    """The amounts in cents, unrounded."""
    price = _unit_cents(charge, place)
    if price is None:
        return [_cents(charge, place, each) for each in units]
    return [each * price if each > 0 else ZERO for each in units]


def _unit_cents(charge: CompiledCharge, place: Place) -> Decimal | None:
    """What one unit costs; None where that is no decimal, as of a price for three units."""
    context = getcontext()
    context.clear_flags()
    price = _cents(charge, place, _ONE)
    return None if context.flags[Inexact] else price


def _cents(charge: CompiledCharge, place: Place, units: Decimal) -> Decimal:
    """The amount of a line, in cents."""
    number, group = place
    quantity = Quantity(max(units, ZERO), subunits=charge.subunits, group=dict(group))
    return max(charge.buckets[number].pricer(quantity).amount, ZERO) * charge.subunits
