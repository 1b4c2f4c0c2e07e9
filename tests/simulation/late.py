"""Usage that came in after its period was billed: what the period comes to by now, less what was billed and decided of it (docs/late-usage.md).

Nothing is said where anything else than late events has changed the period since: amendments, other prices, invoices that were made again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .settle import Bill, Fee

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle, Subscription

ENDS = {"period", "end", "upgrade", "downgrade"}
Amounts = tuple[Fraction, Fraction, int]
"""Units, and what they come to, precisely and in cents."""
Lines = dict[Any, Amounts]
"""By filter; what lacks of a charge's minimum is one of its own."""


@dataclass
class Late:
    """Late usage of a charge in a billed period."""

    row: Subscription
    code: str
    start: datetime
    middle: datetime
    lines: Lines
    """What is more than was billed."""
    fees: list[Fee]
    taken: int = 0
    """So much of what was billed up to a minimum commitment pays for it."""
    status: str = "open"
    seen: int = 0
    """The last event that it was decided with."""

    @property
    def cents(self) -> int:
        return sum(fee.cents for fee in self.fees)


@dataclass
class _Period:
    """A charge in a billed period that events came in for later."""

    bill: Bill
    row: Subscription
    why: str
    charge: Action
    start: datetime
    end: datetime
    decided: list[Late] = field(default_factory=list)

    @property
    def middle(self) -> datetime:
        return self.start + (self.end - self.start) / 2


def named(late: Late) -> dict[str, Any]:
    """By what the product knows it, and what it has to be."""
    units = sum((units for units, _, _ in late.lines.values()), Fraction(0))
    return {
        "of": late.row.id,
        "code": late.code,
        "start": late.start,
        "units": units,
        "cents": sorted(fee.cents for fee in late.fees if fee.cents),
    }


def chosen(oracle: Oracle, action: Action) -> Late | None:
    known = sorted(_open(oracle), key=lambda each: (each.row.id, each.code, each.start))
    return known[action["late"] % len(known)] if known else None


def decide(oracle: Oracle, action: Action) -> bool:
    """It is written off, or the subscription's next invoice bills it; one of its own where that is over."""
    late = chosen(oracle, action)
    if late is None:
        return False
    oracle.late.append(late)
    late.seen = oracle.numbers
    late.status = "scheduled" if action["decide"] == "bill" else "accepted"
    oracle.played.add("late_usage_billed" if action["decide"] == "bill" else "late_usage_accepted")
    oracle.played |= {"late_usage_of_a_commitment"} if late.taken else set()
    bill_alone(oracle, late.row.customer)
    return True


def bill_alone(oracle: Oracle, customer: Customer) -> None:
    """What no other invoice will bill has one of its own."""
    for late in oracle.late:
        if late.status == "scheduled" and late.row.customer is customer and not oracle.active(late.row.id):
            oracle.played.add("late_usage_alone")
            late.status = "billed"
            fees = _taxed(oracle, [late], late.row.issuer)
            oracle.settle(customer, Bill("subscription", fees, oracle.now))


def take(oracle: Oracle, row: Subscription, why: str) -> list[Fee]:
    """The fees of earlier periods that a bill of a row takes along."""
    if why not in ENDS:
        return []
    found = [each for each in oracle.late if each.status == "scheduled" and each.row.id == row.id]
    for late in found:
        late.status = "billed"
    return _taxed(oracle, found, row.issuer)


def _taxed(oracle: Oracle, found: Iterable[Late], issuer: str) -> list[Fee]:
    """By the billing entity of the invoice that it is on."""
    fees = [fee for late in found for fee in late.fees]
    for fee in fees:
        fee.taxes = oracle.taxes_of(fee.subscription, issuer)
        fee.subscription.fees.append(fee)
    return fees


def _open(oracle: Oracle) -> Iterator[Late]:
    periods = [each for each in _periods(oracle) if _is_open(oracle, each)]
    for each in periods:
        late = _late(oracle, each)
        commitments = _commitments(each)
        others = [one for one in periods if one is not each and one.row is each.row]
        if late is None or len(commitments) > 1:
            continue
        for agreed in commitments:
            if agreed.credited or any(_is_in(one.middle, agreed) for one in others):
                break
            taken = sum(
                one.taken for one in oracle.late if one.row is late.row and _is_in(one.middle, agreed)
            )
            late.taken = max(min(late.cents, agreed.cents - taken), 0)
            if late.taken:
                less = Fraction(1), Fraction(-late.taken), -late.taken
                late.fees.append(_fee(late.row, less, "commitment"))
        else:
            yield late


def _periods(oracle: Oracle) -> Iterator[_Period]:
    for bill in oracle.periods:
        if bill.status != "finalized" or bill.again is not None:
            continue
        for row, why in bill.parts:
            if why not in ENDS:
                continue
            start, end, _, _ = oracle.used_period(row, why, bill.made)
            for charge in row.plan["charges"]:
                if not charge["advance"] and start < end:
                    decided = [
                        each
                        for each in oracle.late
                        if each.row is row and (each.code, each.start) == (charge["metric"], start)
                    ]
                    yield _Period(bill, row, why, charge, start, end, decided)


def _is_open(oracle: Oracle, of: _Period) -> bool:
    """Whether events came in since it was billed, and decided."""
    seen = max([of.bill.counted, *(each.seen for each in of.decided)])
    recurring = oracle.metrics[of.charge["metric"]]["recurring"]
    return any(
        each.order > seen and each.at < of.end and (recurring or each.at >= of.start)
        for each in _events(oracle, of)
    )


def _events(oracle: Oracle, of: _Period) -> list[Any]:
    code = of.charge["metric"]
    return [each for each in oracle.events.values() if (each.subscription, each.metric) == (of.row.id, code)]


def _is_only_late(oracle: Oracle, of: _Period) -> bool:
    final = of.bill.finalized or of.bill.made
    return (
        of.charge["model"] != "catalogue"
        and of.row.plan["made"] < final
        and of.charge.get("changed", of.row.plan["made"]) < final
        and not any(each.amended for each in _events(oracle, of))
    )


def _late(oracle: Oracle, of: _Period) -> Late | None:
    """What it comes to more by now; nothing where that is not more, or something else has changed it."""
    if not _is_only_late(oracle, of):
        return None
    code, (owner, _) = of.charge["metric"], of.row.period(of.row.day(of.start))
    lines: Lines = defaultdict(lambda: (Fraction(0), Fraction(0), 0))
    _add(lines, _of_fees(_now(oracle, of), of), 1)
    _add(lines, _of_fees(of.bill.all_fees, of), -1)
    for decided in of.decided:
        _add(lines, decided.lines.items(), -1)
    changed = {place: each for place, each in lines.items() if each[0] or each[2]}
    fees = [replace(_fee(of.row, amounts, "charge", code), period=owner) for amounts in changed.values()]
    found = Late(of.row, code, of.start, of.middle, changed, fees)
    return found if found.cents > 0 else None


def _now(oracle: Oracle, of: _Period) -> list[Fee]:
    """The usage that its bill would have by now."""
    before, oracle.now = oracle.now, of.bill.made
    found = [*oracle.usage(of.row, of.why, of.bill.turn)]
    oracle.now = before
    return found


def _of_fees(fees: Iterable[Fee], of: _Period) -> Iterator[tuple[Any, Amounts]]:
    for fee in fees:
        if fee.subscription is of.row and fee.code == of.charge["metric"] and not fee.is_late:
            fills = fee.charge is None
            yield (
                "fills" if fills else fee.place,
                (Fraction(0) if fills else fee.units, fee.precise, fee.cents),
            )


def _add(to: Lines, lines: Iterable[tuple[Any, Amounts]], sign: int) -> None:
    for place, (units, precise, cents) in lines:
        before = to[place]
        to[place] = before[0] + sign * units, before[1] + sign * precise, before[2] + sign * cents


def _fee(row: Subscription, amounts: Amounts, kind: str, code: str = "") -> Fee:
    units, precise, cents = amounts
    return Fee(kind, code, units or Fraction(1), precise, cents, [], row.plan["code"], row, is_late=True)


def _commitments(of: _Period) -> list[Fee]:
    """What final invoices have billed up to the minimum of the plan's period that it is in."""
    return [
        fee
        for bill in of.row.customer.bills
        if bill.status == "finalized"
        for fee in bill.fees
        if fee.kind == "commitment"
        and fee.subscription is of.row
        and not fee.is_late
        and _is_in(of.middle, fee)
    ]


def _is_in(at: datetime, fee: Fee) -> bool:
    assert fee.start is not None
    assert fee.end is not None
    return fee.start <= at < fee.end
