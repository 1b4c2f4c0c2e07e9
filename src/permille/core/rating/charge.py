"""The compiled charge: prices read, filters resolved, ready to price many subscriptions.

A charge's usage falls into buckets: one for each of its filters and one for what no filter wants, each split
by the pricing groups. Source: semantics-metering.md sections 2.2, 4.3 and 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from permille.core.fee_kind import FeeKind
from permille.core.metering.aggregations import Aggregation
from permille.core.metering.custom_aggregation import Aggregator
from permille.core.metering.usage import (
    Partial,
    Usage,
)
from permille.core.money import ZERO, exact, subunits
from permille.core.once import Once
from permille.core.period import Period
from permille.core.rating.fee import Breakdown, Fee, Presentation, fee_like
from permille.core.rating.filters import ChargeFilter, Group, Id, filter_finder, group_of
from permille.core.rating.models import ChargeModel, Model, Price, Pricer, Quantity, model_of, pricer
from permille.core.rating.models.group_keys import (
    TARGET_WALLET,
    PresentationKeys,
    presentation_keys,
    pricing_keys,
    with_wallet,
)
from permille.core.rating.pricing_unit import SUBUNITS, AppliedPricingUnit, Owed, owed
from permille.core.rating.rounding import Rounding
from permille.core.rating.unlisted import UnlistedValues, is_unpriced
from permille.core.record import Record, replace

Dimensions = Mapping[str, str | None]
"""The property texts by which events are priced apart: the metric's filter keys and the grouping keys."""

Place = tuple[int, Group]
"""Where usage counts: the bucket's index in its charge, and the pricing group."""


_BUCKETS_REMEMBERED = 4096
_PROPERTIES_REMEMBERED = 16_384


class Bucket(NamedTuple):
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
    placed: Callable[[Dimensions], Dimensions] | None = None
    """What usage is split by instead of its own dimensions."""
    is_unpriced: bool = False
    """Whether nobody has decided what its usage costs."""
    is_held: bool = False
    """Whether an invoice with its usage waits until somebody has."""


class _FeesAlike:
    """What the fees of each bucket are alike in, for the period that was priced last: a run prices one for thousands."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[Period | None, dict[int, Fee]] = None, {}

    def of(self, charge: CompiledCharge, bucket: Bucket, period: Period) -> Fee:
        """As `fee_like` says; the bucket is one of the charge's, so that its object is known as long as this is."""
        known = self._known
        if known[0] is not period:
            known = self._known = period, {}
        found = known[1].get(id(bucket))
        if found is None:
            found = known[1][id(bucket)] = fee_like(
                FeeKind.CHARGE,
                charge_id=charge.charge_id,
                charge_filter_id=bucket.charge_filter_id,
                name=bucket.invoice_display_name,
                period=period,
            )
        return found


class CompiledCharge(Record, kw_only=True, dict=True):
    """A charge made ready to price many subscriptions: prices read, filters resolved, matches remembered."""

    charge_id: Id
    aggregation: Aggregation
    rounding_function: str | None
    rounding_precision: int | None
    subunits: int
    """How many smallest units the currency has."""
    applied_pricing_unit: AppliedPricingUnit | None
    """What the prices are in, if not in the currency."""
    prorated: bool
    pay_in_advance: bool
    is_renewal: bool = False
    """Whether it prices, in advance, the recurring units that are carried over into a period."""
    min_amount_cents: int
    """The minimum charge of a whole period, over all buckets, in hundredths of the pricing unit if there is one."""
    buckets: tuple[Bucket, ...]
    """One for each filter in order, then the default one."""
    filter_keys: tuple[str, ...]
    bucket_of: Callable[[tuple[str | None, ...]], int]
    """Texts of the filter_keys -> index of the bucket."""
    presentation_keys: PresentationKeys
    aggregator: Aggregator | None = None
    """The rules of a custom aggregation."""
    rounding: Rounding = Rounding.PER_FEE

    @Once
    def alike(self) -> _FeesAlike:
        """What its fees are alike in."""
        return _FeesAlike()

    @property
    def priced_subunits(self) -> int:
        """How many smallest units the currency or the pricing unit has."""
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
    accepts_target_wallet: bool = False,
) -> CompiledCharge:
    """Read a charge once. Properties are valid, filter values expanded."""
    filter_keys = tuple(sorted({key for each in filters for key in each.values}))
    priced = [(each.id, each.invoice_display_name, each.properties) for each in filters]
    per_unit = subunits(currency)
    *listed, unlisted = [
        _bucket(filter_id, name, model, own, per_unit=per_unit, applied=applied_pricing_unit)
        for filter_id, name, own in [*priced, (None, invoice_display_name, properties)]
    ]
    if filters:
        unlisted = unlisted._replace(
            is_unpriced=is_unpriced(unlisted_values, model, properties),
            is_held=unlisted_values is UnlistedValues.HELD,
        )
    buckets = (*listed, unlisted)
    if accepts_target_wallet:
        buckets = tuple(each._replace(group_keys=with_wallet(each.group_keys)) for each in buckets)
    return CompiledCharge(
        charge_id=charge_id,
        aggregation=aggregation,
        rounding_function=rounding_function,
        rounding_precision=rounding_precision,
        subunits=per_unit,
        applied_pricing_unit=applied_pricing_unit,
        prorated=prorated,
        pay_in_advance=pay_in_advance,
        min_amount_cents=min_amount_cents,
        buckets=buckets,
        filter_keys=filter_keys,
        bucket_of=_bucket_finder(filters, filter_keys),
        presentation_keys=presentation_keys(properties),
        aggregator=aggregator,
        rounding=rounding,
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
    if model_of(model).placed is None:
        read = _remembered(model, _ByText(properties), per_unit, applied)
    else:
        read = _read(model, properties, per_unit, applied)
    return read._replace(charge_filter_id=filter_id, invoice_display_name=name, properties=properties)


def _read(
    model: ChargeModel, properties: Mapping[str, Any], per_unit: int, applied: AppliedPricingUnit | None
) -> Bucket:
    """The bucket of properties, of no filter and without a name."""
    read, placed = pricer(model, properties), model_of(model).placed
    with exact():
        idle = read(Quantity(units=ZERO))
        idle_owed = owed(idle.amount, idle.unit_amount, per_unit=per_unit, applied=applied)
    return Bucket(
        charge_filter_id=None,
        invoice_display_name=None,
        group_keys=_group_keys(model_of(model), properties),
        placed=placed(properties) if placed else None,
        model=model,
        pricer=read,
        idle=idle,
        idle_owed=idle_owed,
        properties=properties,
        reads_events=model_of(model).reads_events(properties),
    )


class _ByText:
    """Properties that are equal, and looked up, by their text: they are JSON, of which each value has its own."""

    __slots__ = ("properties", "text")

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self.properties = properties
        self.text = repr(properties)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=_PROPERTIES_REMEMBERED)
def _remembered(
    model: ChargeModel, by_text: _ByText, per_unit: int, applied: AppliedPricingUnit | None
) -> Bucket:
    """As `_read`, once: a charge may have a thousand prices, and is compiled for each read of its usage."""
    return _read(model, by_text.properties, per_unit, applied)


def _group_keys(model: Model, properties: Mapping[str, Any]) -> tuple[str, ...]:
    dated_by = [model.dated_by] if model.dated_by else []
    return tuple(dict.fromkeys((*model.priced_by, *pricing_keys(properties), *dated_by)))


def _bucket_finder(
    filters: Sequence[ChargeFilter], keys: tuple[str, ...]
) -> Callable[[tuple[str | None, ...]], int]:
    return lru_cache(maxsize=_BUCKETS_REMEMBERED)(filter_finder(filters, keys))


def counted_by(charge: CompiledCharge, partial: Partial) -> Partial:
    """The part of some usage that counts for the charge."""
    in_advance = charge.pay_in_advance or charge.is_renewal
    return charge.aggregation.paid_in_advance(partial) if in_advance else partial


def series_place(charge: CompiledCharge, dimensions: Dimensions) -> Place:
    """Where a series counts: the index of its bucket, and its pricing group there."""
    i = 0
    if len(charge.buckets) > 1:
        i = charge.bucket_of(tuple([dimensions.get(key) for key in charge.filter_keys]))
    keys, placed = charge.buckets[i].group_keys, charge.buckets[i].placed
    if placed is not None:
        dimensions = placed(dimensions)
    return i, group_of(dimensions, keys) if keys else ()


def shown_group(charge: CompiledCharge, group: Group) -> dict[str, str | None]:
    """The group of a fee: one in advance does not have the wallet that its event did not name."""
    if not charge.pay_in_advance:
        return dict(group)
    return {key: value for key, value in group if value is not None or key != TARGET_WALLET}


def shown_by(charge: CompiledCharge, dimensions: Dimensions) -> dict[str, str]:
    """What events with these property texts are shown by."""
    return {name: dimensions.get(name) or "" for name in charge.presentation_keys.names}


def presentation(charge: CompiledCharge, breakdowns: Iterable[Breakdown]) -> Presentation | None:
    """How one of the charge's fees is shown."""
    keys = charge.presentation_keys
    return Presentation(breakdowns=tuple(breakdowns), on_invoice=keys.on_invoice) if keys.names else None


def bucket_fee(
    charge: CompiledCharge,
    bucket: Bucket,
    due: Owed,
    *,
    usage: Usage,
    subscription_id: Id,
    group: Group,
    period: Period,
    **more: Any,
) -> Fee:
    """A fee of a charge's bucket; `more` are other fields of the fee."""
    cents, precise, unit_cents, unit = due.money
    return replace(
        charge.alike.of(charge, bucket, period),
        subscription_id=subscription_id,
        units=usage.units,
        events_count=usage.events_count,
        total_aggregated_units=usage.total_aggregated_units,
        amount_cents=cents,
        precise_amount_cents=precise,
        unit_amount_cents=unit_cents,
        precise_unit_amount=unit,
        grouped_by=shown_group(charge, group) if group else {},
        in_unit=due.in_unit,
        **more,
    )
