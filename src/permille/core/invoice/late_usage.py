"""Late usage: what a billed period comes to more than was billed, since events came in after its invoice was final.

The difference is taken by price and group, between the period priced with all its events and all that was billed or
decided of it before, so that whatever is decided, and in which order, adds up to the price of the period.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import Any
from uuid import UUID

from permille.core.contract.plan import Plan
from permille.core.fee_kind import FeeKind
from permille.core.money import ZERO, LineAmounts, exact, precise, subunits
from permille.core.period import Period
from permille.core.rating.charge import CompiledCharge
from permille.core.rating.commitment import commitment_fee
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.rating.models.catalogue import PRICE_DATE
from permille.core.rating.pricing_unit import SUBUNITS, AppliedPricingUnit, InUnit
from permille.core.record import Record, replace

ONE = Decimal(1)


class LateUsageStatus(StrEnum):
    """What has been decided about late usage."""

    OPEN = "open"
    SCHEDULED = "scheduled"
    """The customer's next invoice bills it."""
    BILLED = "billed"
    ACCEPTED = "accepted"
    """It is written off."""


class Line(Record, kw_only=True):
    """What one price and group of a charge comes to, or the difference between two such amounts."""

    charge_filter_id: Id | None
    grouped_by: Mapping[str, str | None]
    is_true_up: bool
    """Whether it makes the charge's other lines up to its minimum."""
    units: Decimal
    events_count: int
    amount_cents: int
    precise_amount_cents: Decimal
    unit_cents: tuple[int, Decimal] | None = None
    """Whole and precise hundredths of the pricing unit, where the charge has one."""
    is_unpriced: bool = False
    """Whether nobody has set a price for its usage."""
    is_commitment: bool = False
    """Whether it is what the others take of the plan's minimum commitment."""

    @property
    def place(self) -> tuple[Any, ...]:
        """Lines of which this is the same are about the same usage."""
        return self.is_true_up, self.charge_filter_id, frozenset(self.grouped_by.items())

    @property
    def is_nothing(self) -> bool:
        return not (self.units or self.events_count or self.amount_cents)

    @property
    def only_moves_cents(self) -> bool:
        """Whether it is of the same usage at the same precise amount, with other cents."""
        precise_cents = self.unit_cents[1] if self.unit_cents else self.precise_amount_cents
        return not (self.units or self.events_count or precise_cents)


class LateUsageFees(Record, kw_only=True):
    """The fees that bill late usage, by the plan of the time when it was used."""

    late_usage_id: UUID
    plan: Plan
    fees: Sequence[Fee]


def line_of(fee: Fee) -> Line:
    """What a fee comes to. A true-up fee has neither units nor events of its own."""
    in_unit = fee.in_unit.amounts if fee.in_unit else None
    return Line(
        charge_filter_id=fee.charge_filter_id,
        grouped_by=fee.grouped_by,
        is_true_up=fee.is_true_up,
        units=Decimal(0) if fee.is_true_up else fee.units,
        events_count=fee.events_count or 0,
        amount_cents=fee.amount_cents,
        precise_amount_cents=fee.precise_amount_cents,
        unit_cents=(in_unit.amount_cents, in_unit.precise_amount_cents) if in_unit else None,
        is_unpriced=fee.is_unpriced,
    )


def less(line: Line, cents: int) -> Line:
    """A line of which so much came back for corrected prices."""
    with exact():
        return replace(
            line,
            amount_cents=line.amount_cents - cents,
            precise_amount_cents=line.precise_amount_cents - cents,
        )


def difference(now: Iterable[Line], before: Iterable[Line]) -> list[Line]:
    """What `now` comes to more than `before`, by place, without the places where nothing has changed."""
    found: dict[tuple[Any, ...], Line] = {}
    for sign, lines in ((1, now), (-1, before)):
        for line in lines:
            found[line.place] = _added(found.get(line.place), line, sign)
    return _with_moved_cents([line for line in found.values() if not line.is_nothing])


def _with_moved_cents(lines: list[Line]) -> list[Line]:
    """Where a charge rounds its fees together, usage of one line may move a cent between others: it takes that along."""
    moved = [line for line in lines if line.only_moves_cents]
    changed = [line for line in lines if not line.only_moves_cents]
    if not moved or not changed:
        return lines
    first, *others = changed
    for line in moved:
        first = replace(
            first,
            amount_cents=first.amount_cents + line.amount_cents,
            unit_cents=first.unit_cents
            and line.unit_cents
            and (first.unit_cents[0] + line.unit_cents[0], first.unit_cents[1]),
        )
    return [first, *others]


def _added(to: Line | None, line: Line, sign: int) -> Line:
    with exact():
        in_unit = line.unit_cents
        if in_unit is not None or (to is not None and to.unit_cents is not None):
            whole, fine = in_unit or (0, Decimal(0))
            known = (to.unit_cents if to else None) or (0, Decimal(0))
            in_unit = known[0] + sign * whole, known[1] + sign * fine
        return Line(
            charge_filter_id=line.charge_filter_id,
            grouped_by=line.grouped_by,
            is_true_up=line.is_true_up,
            units=(to.units if to else Decimal(0)) + sign * line.units,
            events_count=(to.events_count if to else 0) + sign * line.events_count,
            amount_cents=(to.amount_cents if to else 0) + sign * line.amount_cents,
            precise_amount_cents=(to.precise_amount_cents if to else Decimal(0))
            + sign * line.precise_amount_cents,
            unit_cents=in_unit,
            is_unpriced=to.is_unpriced if to else line.is_unpriced,
        )


def with_usage(lines: Iterable[Line], before: Iterable[Line]) -> list[Line]:
    """The lines of which usage has come late, and what of a minimum they take: not those that another price alone has changed.

    `before` is all that was billed or decided.
    """
    used = [line for line in lines if not line.is_true_up and (line.units or line.events_count)]
    return _with_minimum(used, before)


def _with_minimum(used: list[Line], before: Iterable[Line]) -> list[Line]:
    """With what the line that made a charge up to its minimum changes by these others, at the prices that it was made up with."""
    filled = [line for line in before if line.is_true_up]
    filling = reduce(_and, filled, None)
    more = reduce(_and, used, None)
    if more is None or filling is None or filling.amount_cents <= 0:
        return used
    taken = min(more, filling, key=lambda line: line.amount_cents)
    change = replace(
        _added(None, taken, -1),
        charge_filter_id=filling.charge_filter_id,
        grouped_by=filling.grouped_by,
        is_true_up=True,
        units=ZERO,
        events_count=0,
        is_unpriced=False,
    )
    return used if change.is_nothing else [*used, change]


def _and(to: Line | None, line: Line) -> Line:
    return _added(to, line, 1)


def with_commitment(lines: list[Line], left_cents: int) -> list[Line]:
    """The lines with what they take of a minimum commitment that their plan's period was billed up to: that much is paid.

    `left_cents` is what other late usage has not taken of it.
    """
    taken = min(totals(lines)[2], left_cents)
    if taken <= 0:
        return lines
    less_missing = Line(
        charge_filter_id=None,
        grouped_by={},
        is_true_up=False,
        units=ZERO,
        events_count=0,
        amount_cents=-taken,
        precise_amount_cents=Decimal(-taken),
        is_commitment=True,
    )
    return [*lines, less_missing]


def of_commitment(lines: Iterable[Line]) -> int:
    """The cents that these lines take of a minimum commitment."""
    return -sum(line.amount_cents for line in lines if line.is_commitment)


UsagePlace = tuple[Any, ...]


def usage_place(line: Line) -> UsagePlace:
    """Which usage a line is of. Corrected prices may split it at other dates."""
    group = frozenset((key, text) for key, text in line.grouped_by.items() if key != PRICE_DATE)
    return line.is_true_up, line.charge_filter_id, group


def usage_by_place(lines: Iterable[Line]) -> dict[UsagePlace, tuple[Decimal, int]]:
    """The units and events of lines, whatever they cost, without the places where there are none."""
    found: dict[UsagePlace, tuple[Decimal, int]] = defaultdict(lambda: (ZERO, 0))
    with exact():
        for line in lines:
            units, events_count = found[usage_place(line)]
            found[usage_place(line)] = units + line.units, events_count + line.events_count
    return {place: used for place, used in found.items() if any(used)}


def with_changed_usage(lines: Sequence[Line], before: Iterable[Line]) -> list[Line]:
    """The lines of which usage has come late, and what of a minimum they take: what corrected prices alone change is no late usage.

    `before` is all that was billed or decided.
    """
    changed = usage_by_place(lines)
    used = [line for line in lines if not line.is_true_up and usage_place(line) in changed]
    return _with_minimum(used, before)


def waits_for_price(lines: Iterable[Line], charge: CompiledCharge) -> bool:
    """Whether usage is in it that the charge holds until it has a price."""
    held = {bucket.charge_filter_id for bucket in charge.buckets if bucket.is_held}
    used = [line for line in lines if not line.is_true_up and (line.units or line.events_count)]
    return any(line.charge_filter_id in held for line in used)


def totals(lines: Sequence[Line]) -> tuple[int, Decimal, int]:
    """Events, units and amount in cents of a difference."""
    with exact():
        units = sum((line.units for line in lines), Decimal(0))
    return sum(line.events_count for line in lines), units, sum(line.amount_cents for line in lines)


def adjustment_fee(
    line: Line,
    *,
    late_usage_id: Id,
    subscription_id: Id,
    charge_id: Id,
    period: Period,
    currency: str,
    applied: AppliedPricingUnit | None,
) -> Fee:
    """The fee that bills a line of late usage. Its price is that of a unit on average; without units it is one."""
    if line.is_commitment:
        fee = commitment_fee(
            subscription_id,
            missing_cents=line.amount_cents,
            period=period,
            currency=currency,
            invoice_display_name=None,
        )
        return replace(fee, late_usage_id=late_usage_id)
    units = line.units or ONE
    with exact():
        money = _amounts(line.amount_cents, line.precise_amount_cents, units, subunits(currency))
        in_unit = None
        if applied is not None and line.unit_cents is not None:
            in_unit = InUnit(applied, _amounts(*line.unit_cents, units, SUBUNITS))
    return Fee(
        kind=FeeKind.CHARGE,
        subscription_id=subscription_id,
        charge_id=charge_id,
        charge_filter_id=line.charge_filter_id,
        invoice_display_name=None,
        units=units,
        events_count=line.events_count,
        total_aggregated_units=None,
        amount_cents=money.amount_cents,
        precise_amount_cents=money.precise_amount_cents,
        unit_amount_cents=money.unit_amount_cents,
        precise_unit_amount=money.precise_unit_amount,
        amount_details={},
        grouped_by=line.grouped_by,
        from_=period.from_,
        to=period.to,
        in_unit=in_unit,
        is_unpriced=line.is_unpriced,
        late_usage_id=late_usage_id,
    )


def _amounts(cents: int, precise_cents: Decimal, units: Decimal, per_unit: int) -> LineAmounts:
    unit_amount = Decimal(cents) / units / per_unit
    return LineAmounts(cents, precise_cents, int(unit_amount * per_unit), precise(unit_amount))
