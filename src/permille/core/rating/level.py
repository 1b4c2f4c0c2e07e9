"""The level of usage that is paid in advance: how high it was in a period, event by event.

Events count in the order of arrival. Of a sum, of unique values and of the units and the amount of a custom
aggregation only what rises above the highest level of the period is billable: a decrease gives nothing back, and what
comes back up to that level is free.
Source: semantics-metering.md section 5.12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any

from permille.core.metering.aggregations import Aggregation, Needs
from permille.core.metering.custom_aggregation import Rules, State
from permille.core.metering.rule import DIGITS
from permille.core.metering.usage import AdvanceEvent, Instance, Operation
from permille.core.money import ZERO, exact
from permille.core.period import INSTANT, Period
from permille.core.rating.models import Quantity
from permille.core.rating.proration import Proration
from permille.core.record import Record, replace

_FIVE_DECIMALS = Decimal("0.00001")


class CarriedOver(Record, kw_only=True):
    """What a recurring metric carries over into the period."""

    units: Decimal = ZERO
    values: frozenset[str | None] = frozenset()
    amount: Decimal = ZERO
    """The amount that a custom aggregation has reached."""


NOTHING_CARRIED_OVER = CarriedOver()


class LevelState(Record, kw_only=True):
    """The state of a level after an event, from which it goes on with the next."""

    units: Decimal = ZERO
    """From the period's start on; so is the highest."""
    highest: Decimal = ZERO
    prorated: Decimal = ZERO
    """What the highest level was made of, each rise by the days that were left."""
    events_count: int = 0
    """Unique values count as their own events."""
    precise_amount_cents: Decimal = ZERO
    first_values: tuple[Decimal, ...] = ()
    is_priced: bool = False
    """Whether any fee has been made: what is due without any units is in the first."""
    there: frozenset[str | None] = frozenset()
    """The unique values that are present, with those carried over."""
    amount: Decimal = ZERO
    """The amount of a custom aggregation, from the period's start on; so is the highest."""
    highest_amount: Decimal = ZERO
    free_events: int = 0
    """Events of a sum that stayed below what was paid already."""


@dataclass(slots=True, kw_only=True)
class Level:
    """How far a bucket's group has come in a period. The fields are those of LevelState."""

    aggregation: Aggregation
    carried_over: CarriedOver
    remembers: Callable[[int, Decimal], bool]
    """Whether the price still looks at the single values that come after so many with that sum."""
    rules: Rules | None = None
    """Those of a custom aggregation."""
    units: Decimal = ZERO
    highest: Decimal = ZERO
    prorated: Decimal = ZERO
    events_count: int = 0
    precise_amount_cents: Decimal = ZERO
    first_values: list[Decimal] = field(default_factory=list)
    is_priced: bool = False
    amount: Decimal = ZERO
    highest_amount: Decimal = ZERO
    free_events: int = 0
    first_total: Decimal = field(default=ZERO, init=False)
    there: set[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.there = set(self.carried_over.values)

    def resume(self, reached: LevelState) -> Level:
        """Go on from there."""
        self.units, self.highest, self.prorated = reached.units, reached.highest, reached.prorated
        self.events_count, self.precise_amount_cents = reached.events_count, reached.precise_amount_cents
        self.first_values, self.there = list(reached.first_values), set(reached.there)
        self.first_total = sum(reached.first_values, ZERO)
        self.is_priced = reached.is_priced
        self.amount, self.highest_amount = reached.amount, reached.highest_amount
        self.free_events = reached.free_events
        return self

    @property
    def reached(self) -> LevelState:
        """Where it is now."""
        return LevelState(
            units=self.units,
            highest=self.highest,
            prorated=self.prorated,
            events_count=self.events_count,
            precise_amount_cents=self.precise_amount_cents,
            first_values=tuple(self.first_values),
            is_priced=self.is_priced,
            there=frozenset(self.there),
            amount=self.amount,
            highest_amount=self.highest_amount,
            free_events=self.free_events,
        )

    def _change(self, event: AdvanceEvent) -> Decimal | None:
        return (
            self.aggregation.change(event, self.there)
            if self.rules is None
            else self._change_by_rules(event, self.rules)
        )

    def _change_by_rules(self, event: AdvanceEvent, rules: Rules) -> Decimal | None:
        state = State(self.carried_over.units + self.units, self.carried_over.amount + self.amount)
        with localcontext(DIGITS):
            reached = rules.after(state, event.at, event.texts)
        if reached is None:
            return None
        self.amount = reached.amount - self.carried_over.amount
        return reached.total_units - state.total_units

    def take(self, event: AdvanceEvent) -> PricedEvent | None:
        """Count the event in, to be priced; None when it takes no part."""
        seen = tuple(self.first_values)
        is_first, before = not (self.is_priced or self.carried_over.units), self._quantity(seen)
        counted = self.count(event)
        if counted is None:
            return None
        return PricedEvent(
            event=event,
            change=counted.change,
            gained=counted.gained,
            gained_amount=counted.gained_amount,
            before=None if is_first else before,
            after=self._quantity((*seen, counted.value)),
            is_free=counted.is_free,
        )

    def count(self, event: AdvanceEvent) -> LevelChange | None:
        """Count the event in, whatever it costs; None when it takes no part."""
        change = self._change(event)
        if change is None:
            return None
        is_unique = self.aggregation.needs is Needs.UNIQUES
        self.units += change
        gained = max(self.units - self.highest, ZERO)
        self.highest += gained
        if gained or not is_unique:
            self.events_count += 1
        self.precise_amount_cents += event.precise_amount_cents
        value = Decimal(1) if self.aggregation.adds_one else change
        if self.remembers(len(self.first_values), self.first_total):
            self.first_values.append(value)
            self.first_total += value
        is_free = not gained and (change != 0 or is_unique)
        self.is_priced = self.is_priced or not is_free
        self.free_events += is_free and not is_unique
        return LevelChange(
            change=change,
            gained=gained,
            gained_amount=self._gain_amount() if self.rules else ZERO,
            value=value,
            is_free=is_free,
        )

    def _gain_amount(self) -> Decimal:
        """Raise the highest amount to where the amount is now; by how much above nothing."""
        before = max(self.carried_over.amount + self.highest_amount, ZERO)
        self.highest_amount = max(self.amount, self.highest_amount)
        return max(self.carried_over.amount + self.highest_amount, ZERO) - before

    def _quantity(self, event_values: tuple[Decimal, ...]) -> Quantity:
        return Quantity(
            units=self.carried_over.units + self.highest,
            events_count=self.events_count,
            precise_amount_cents=self.precise_amount_cents,
            event_values=event_values,
        )


class LevelChange(Record, kw_only=True):
    """What an event did to a level."""

    change: Decimal
    gained: Decimal
    """What it raised the highest level by."""
    gained_amount: Decimal
    """What it raised the highest amount of a custom aggregation by."""
    value: Decimal
    """What a price that looks at single events sees of it."""
    is_free: bool
    """Whether it stayed below what is paid already."""


class PricedEvent(Record, kw_only=True):
    """An event that has been counted in, with what is priced before and after it."""

    event: AdvanceEvent
    change: Decimal
    gained: Decimal
    """What it raised the highest level by."""
    gained_amount: Decimal = ZERO
    """What it raised the highest amount of a custom aggregation by."""
    before: Quantity | None
    """None when nothing is paid for yet."""
    after: Quantity
    is_free: bool
    """Whether it stayed below what is paid already."""

    @property
    def units(self) -> Decimal:
        """The units of its fee: what is billable, else what it would have been."""
        return self.gained or max(self.change, ZERO)


def prorated_units(units: Decimal, at: datetime, period: Period, proration: Proration) -> Decimal:
    """Units from an instant's day to the period's end, as the share of a whole period's days; 5 decimals, up."""
    with exact():
        days = proration.days_between(max(at, period.from_), period.to - INSTANT)
        return (units * days / proration.days_in_period).quantize(_FIVE_DECIMALS, ROUND_CEILING)


class PaidLevel(Record):
    """The units that a running period is priced by: what is paid stays paid when the level falls."""

    units: Decimal
    prorated: Decimal
    gained: Decimal = ZERO
    """The units above what was carried over."""
    free_events: int = 0
    """Events of a sum in the period that cost nothing, as they stayed below what was paid already."""


NOTHING_PAID = PaidLevel(ZERO, ZERO)


def paid_level_at(
    carried_over: CarriedOver, reached: LevelState, *, period: Period, proration: Proration | None
) -> PaidLevel:
    """What a level that has reached this state is paid by."""
    with exact():
        return PaidLevel(
            carried_over.units + reached.highest,
            reached.prorated + _prorated_base(carried_over.units, period, proration),
            reached.highest,
            reached.free_events,
        )


def _prorated_base(units: Decimal, period: Period, proration: Proration | None) -> Decimal:
    if proration is None:
        return ZERO
    share = units * proration.days(period) / proration.days_in_period
    return share.quantize(_FIVE_DECIMALS, ROUND_CEILING)


def paid_level_of_sum(
    values: Iterable[Instance], total: Decimal, *, period: Period, proration: Proration | None
) -> PaidLevel:
    """The level of a sum that is `total` now. Only values of the period change it."""
    own = [(at, value) for at, _, value in by_arrival(values, period) if at >= period.from_]
    return _paid_level(own, total, period, proration)


def by_arrival(values: Iterable[Instance], period: Period) -> list[Instance]:
    """Values in the order in which they are paid in advance: before the period by time, in it by arrival."""
    return sorted(values, key=lambda each: (each[0] >= period.from_, *_order(each, period)))


def paid_level_of_uniques(
    operations: Iterable[Operation], total: Decimal, *, period: Period, proration: Proration | None
) -> PaidLevel:
    """The level of distinct values, of which `total` are present now. Earlier ones are present when the period begins."""
    there: set[str | None] = set()
    changes: list[tuple[datetime, Decimal]] = []
    ordered = sorted(operations, key=lambda each: (each[0] >= period.from_, *_order(each, period)))
    for at, _, text, is_add in ordered:
        if is_add == (text in there):
            continue
        if is_add:
            there.add(text)
        else:
            there.discard(text)
        if at >= period.from_:
            changes.append((at, Decimal(1 if is_add else -1)))
    return replace(_paid_level(changes, total, period, proration), free_events=0)


def _order(event: Operation | Instance, period: Period) -> tuple[Any, ...]:
    """Before the period by time, as ever; in it by arrival, as the fees are made."""
    at, seq = event[:2]
    return (seq,) if at >= period.from_ else (at, seq)


def _paid_level(
    changes: Sequence[tuple[datetime, Decimal]],
    total: Decimal,
    period: Period,
    proration: Proration | None,
) -> PaidLevel:
    with exact():
        level = highest = prorated = ZERO
        free_events = 0
        for at, change in changes:
            level += change
            gained = max(level - highest, ZERO)
            highest += gained
            free_events += bool(change and not gained)
            if proration is not None and gained:
                prorated += prorated_units(gained, at, period, proration)
        base = total - level
        return PaidLevel(
            base + highest, prorated + _prorated_base(base, period, proration), highest, free_events
        )
