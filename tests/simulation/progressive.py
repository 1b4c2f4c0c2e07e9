"""Invoices at usage thresholds, what comes off the invoices that follow, and what is given back (6.6)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import days
from .prices import cut, rounded
from .settle import Bill, Fee, Note

if TYPE_CHECKING:
    from .oracle import Oracle, Subscription


def look(oracle: Oracle) -> None:
    """Bill what has reached a threshold among the subscriptions with new events."""
    owing = {row.id for row in oracle.rows if row.runs and row.behind}
    marked, oracle.marked = oracle.marked - owing, oracle.marked & owing
    found = [
        each
        for row in oracle.rows
        if row.id in marked and row.runs and row.plan["thresholds"]
        for each in _reached(oracle, row)
    ]
    for row, fees, lifetime in found:
        priced = [fee for fee in fees if not fee.is_unpriced]
        billed = [fee for fee in priced if fee.cents]
        bill = Bill("progressive_billing", billed, oracle.now, row=row, all_fees=priced)
        if not bill.fees:
            continue
        oracle.highest[row.id] = lifetime
        oracle.played.add("progressive")
        if any(fee.charge["model"] == "catalogue" for fee in bill.fees):
            oracle.played.add("catalogue_at_thresholds")
        before = _last(oracle, row, oracle.now)
        excess = _take(bill, row, before) if before is not None else None
        oracle.settle(row.customer, bill)
        if excess is not None:
            give_back(oracle, row.customer, *excess)


def _reached(oracle: Oracle, row: Subscription) -> list[tuple[Subscription, list[Fee], int]]:
    """A subscription that has passed a threshold, with its usage."""
    fees = oracle.running_fees(row)
    current = sum(fee.cents for fee in fees)
    invoiced = sum(
        fee.cents
        for bill in row.customer.bills
        if bill.kind == "subscription" and bill.status != "voided"
        for fee in bill.fees
        if fee.kind == "charge" and fee.subscription.id == row.id
    )
    last = _last(oracle, row, oracle.now)
    before = max(invoiced + (last.fees_cents if last else 0), oracle.highest.get(row.id, 0))
    total = invoiced + current
    is_passed = _passes(row.plan["thresholds"], before, total)
    return [(row, fees, total)] if is_passed else []


def _passes(thresholds: list[Any], before: int, total: int) -> bool:
    if total <= before:
        return False
    fixed = [each["amount_cents"] for each in thresholds if not each["recurring"]]
    steps = [each["amount_cents"] for each in thresholds if each["recurring"]]
    if any(before < cents <= total for cents in fixed):
        return True
    highest = max(fixed, default=0)
    if not steps:
        return False
    if before < highest:
        return total - highest >= steps[0]
    return before % steps[0] + total - before >= steps[0]


def _last(oracle: Oracle, row: Subscription, at: Any) -> Bill | None:
    """The last invoice at a threshold of the period of usage that an instant is in."""
    first, after = row.usage_period(row.day(at))
    start, end = max(days.opens(first, row.zone), row.started), days.opens(after, row.zone)
    own = [
        bill
        for bill in row.customer.bills
        if bill.kind == "progressive_billing"
        and bill.row is row
        and bill.status == "finalized"
        and start <= bill.made < end
    ]
    return own[-1] if own else None


def take_off(oracle: Oracle, row: Subscription, why: str, bill: Bill) -> tuple[Bill, int] | None:
    """Take off what was billed of a period before; the invoice that has billed it, and how much of it is too much."""
    if why not in {"period", "end", "upgrade", "downgrade"}:
        return None
    start, end, _, _ = oracle.used_period(row, why, bill.periods_at or bill.made)
    if start > end:
        return None
    before = _last(oracle, row, start)
    return _take(bill, row, before) if before is not None else None


def _left_of(row: Subscription, before: Bill) -> int:
    """What an invoice at a threshold has billed that neither came off another one nor came back."""
    taken = sum(
        cents
        for each in row.customer.bills
        if each.status != "voided"
        for of, cents in each.takes_off
        if of is before
    )
    credited = sum(note.credit for note in before.credit_notes if not note.is_correction)
    return max(before.fees_cents - before.coupons - taken - credited - before.corrected, 0)


def _spread(left: int, fees: list[Fee], before: Bill) -> int:
    """Take what is left of an invoice at a threshold off usage; how much of it that is."""
    charges = [fee.code for fee in before.all_fees if fee.cents or (fee.group and fee.precise)]
    fees = [fee for fee in fees if fee.kind == "charge" and fee.code in charges and not fee.is_late]
    amount = min(left, sum(fee.cents for fee in fees))
    billed = {(fee.code, fee.place, fee.group): fee.cents for fee in before.fees}
    was = [billed.get((fee.code, fee.place, fee.group), 0) if fee.charge is not None else 0 for fee in fees]
    for fee, cents in zip(fees, was, strict=True):
        if cents:
            fee.off += min(cut(Fraction(amount * cents, sum(was)), 5), Fraction(fee.cents))
    rest = amount - sum((fee.off for fee in fees), Fraction(0))
    for fee in fees:
        more = min(rest, fee.left)
        fee.off += more
        rest -= more
    return amount


def take_off_running(oracle: Oracle, row: Subscription, fees: list[Fee]) -> None:
    """Take off the usage of the running period what was billed of it before."""
    before = _last(oracle, row, oracle.now)
    if before is not None and (left := _left_of(row, before)):
        oracle.played.add("thresholds_of_wallets_and_usage")
        _spread(left, fees, before)


def _take(bill: Bill, row: Subscription, before: Bill) -> tuple[Bill, int] | None:
    left = _left_of(row, before)
    if not left:
        return None
    amount = _spread(left, [fee for fee in bill.fees if fee.subscription is row], before)
    bill.earlier += amount
    bill.takes_off.append((before, amount))
    return (before, left - amount) if left > amount else None


def give_back(oracle: Oracle, customer: Any, bill: Bill, excess: int) -> None:
    """Credit notes of what invoices at thresholds have billed beyond what their period came to, the last one's first."""
    left = {id(fee): fee.cents - rounded(fee.credited) for fee in bill.fees}
    net = {id(fee): (1 - fee.off / fee.cents) * left[id(fee)] for fee in bill.fees}
    worth = sum(net.values(), Fraction(0))
    share = min(excess / worth, Fraction(1)) if worth > 0 else Fraction(0)
    items = [(fee, cut(left[id(fee)] * share, 5)) for fee in bill.fees]
    base = sum((amount - fee.off * amount / fee.cents for fee, amount in items), Fraction(0))
    note = bill.note(items)
    if (total := sum(note)) and bill.status == "finalized":
        bill.give_back(note)
        oracle.give(customer, bill, Note(total, total, total, oracle.now))
        for fee, amount in items:
            fee.credited += rounded(amount)
    rest = excess - rounded(base)
    for before, _ in bill.takes_off:
        if rest > 0:
            give_back(oracle, customer, before, rest)
