"""Rounding the lines of a charge together, so that amounts below a cent are not lost line by line.

Each line keeps its precise amount. The lines of one bill share the cents of their rounded sum; of lines that are made
one after the other each gets what raises the rounded sum, so that their cents are it at every moment. What is priced in
a unit is rounded in the unit first, by the same rule, and its money is made of the rounded units as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum

from permille.core.money import ZERO, apportion, exact, round_cents
from permille.core.rating.pricing_unit import InUnit, Owed, converted
from permille.core.record import Record


class Rounding(StrEnum):
    """What of a charge is rounded to cents: each fee by itself, as in Lago, or all fees of the charge together."""

    PER_FEE = "per_fee"
    PER_CHARGE = "per_charge"


class Earlier(Record, kw_only=True):
    """What the lines before one come to precisely: in cents, and in hundredths of the pricing unit if there is one."""

    cents: Decimal = ZERO
    in_unit_cents: Decimal = ZERO

    def with_line(self, line: Owed) -> Earlier:
        """What they come to with one more."""
        own = line.in_unit.amounts.precise_amount_cents if line.in_unit else ZERO
        with exact():
            return Earlier(
                cents=self.cents + line.money.precise_amount_cents, in_unit_cents=self.in_unit_cents + own
            )


NOTHING_EARLIER = Earlier()


def sum_of_lines(lines: Iterable[Owed]) -> Earlier:
    """What lines come to precisely."""
    found = NOTHING_EARLIER
    for line in lines:
        found = found.with_line(line)
    return found


def round_together(lines: Sequence[Owed], *, per_unit: int) -> list[Owed]:
    """The lines of one bill of a charge: their cents add up to the rounded sum of their precise amounts.

    `per_unit` is how many smallest units the currency has. Each line is within a cent of its precise amount.
    """
    in_units = [line.in_unit for line in lines if line.in_unit is not None]
    if in_units:
        units = apportion([each.amounts.precise_amount_cents for each in in_units])
        lines = [_in_units(line, cents, per_unit=per_unit) for line, cents in zip(lines, units, strict=True)]
    whole = apportion([line.money.precise_amount_cents for line in lines])
    return [_with_cents(line, cents) for line, cents in zip(lines, whole, strict=True)]


def carry_on(line: Owed, earlier: Earlier, *, per_unit: int) -> Owed:
    """The next line of a charge: it has the cents that raise the rounded sum of all lines so far."""
    if line.in_unit is not None:
        precise_units = line.in_unit.amounts.precise_amount_cents
        line = _in_units(line, _raise(earlier.in_unit_cents, precise_units), per_unit=per_unit)
    return _with_cents(line, _raise(earlier.cents, line.money.precise_amount_cents))


def _raise(before: Decimal, more: Decimal) -> int:
    with exact():
        return round_cents(before + more) - round_cents(before)


def _with_cents(line: Owed, cents: int) -> Owed:
    return Owed(line.money._replace(amount_cents=cents), line.in_unit)


def _in_units(line: Owed, cents: int, *, per_unit: int) -> Owed:
    """The line with so many hundredths of its unit, and the money that these are."""
    assert line.in_unit is not None, "all lines of a charge are in its unit"
    applied, amounts = line.in_unit
    money = converted(cents, ZERO, per_unit=per_unit, applied=applied)
    return Owed(
        line.money._replace(precise_amount_cents=money.precise_amount_cents),
        InUnit(applied, amounts._replace(amount_cents=cents)),
    )
