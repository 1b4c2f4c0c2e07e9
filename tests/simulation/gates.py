"""Subscriptions that run once their first invoice is paid (semantics-billing.md 3.7)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from . import voids
from .prices import cut, rounded
from .settle import Bill, Fee, Note

if TYPE_CHECKING:
    from datetime import datetime

    from .oracle import Action, Oracle, Subscription


def begin_change(oracle: Oracle, old: Subscription, new: Subscription, timeout: int | None) -> str:
    """Whether a change of plan `waits` to be paid first, was `paid` by credits, or is `free`, where nothing is paid first."""
    parts = [(old, "upgrade"), (new, "follow")]
    fees = [*oracle.own_fee(new, "follow"), *oracle.fixed(new, "follow", parts)]
    if timeout is None or not fees:
        return "free"
    new.is_gated, new.timeout = True, timeout or 0
    oracle.played.add("gated_changes")
    if not waits(oracle, new, fees):
        return "paid"
    new.follows = old
    end = fees[0].end
    assert end is not None
    new.gives_up = min(end, new.gives_up or end)
    return "waits"


def waits(oracle: Oracle, row: Subscription, fees: list[Fee]) -> bool:
    """Bill a start that has to be paid first, where credits don't pay it whole; whether it waits for that."""
    bill = Bill("subscription", [fee for fee in fees if fee.cents], oracle.now, all_fees=fees)
    bill.parts = [(row, "start")]
    oracle.take_credits(row.customer, bill)
    row.gate = bill
    row.fees += fees
    for fee in fees:
        if fee.kind == "subscription":
            row.paid = fee, bill
    if bill.total:
        row.waits = True
        row.gives_up = oracle.now + timedelta(hours=row.timeout) if row.timeout else None
        return True
    oracle.played.add("gates_paid_by_credits")
    if bill.fees_cents:
        oracle.keep(row.customer, bill)
    return False


def waiting(oracle: Oracle) -> list[Subscription]:
    return [row for row in oracle.rows if row.gate is not None and row.waits and row.ended is None]


def chosen(oracle: Oracle, action: Action) -> Subscription | None:
    return next((row for row in waiting(oracle) if row.id == action["subscription"]), None)


def due_of(oracle: Oracle, action: Action) -> int:
    row = chosen(oracle, action)
    return row.gate.total if row is not None and row.gate is not None else 0


def pay(oracle: Oracle, row: Subscription) -> None:
    """The invoice is final, and the subscription runs."""
    assert row.gate is not None
    row.waits, row.gate.paid = False, row.gate.total
    oracle.keep(row.customer, row.gate)
    if row.follows is not None:
        row.started = row.created = oracle.now
        row.begin_seats()
        oracle.take_over(row.follows, row, "upgrade", "paid")
        oracle.played.add("gated_changes_paid")
        _credit_days_before(oracle, row, row.gate)


def _credit_days_before(oracle: Oracle, row: Subscription, bill: Bill) -> None:
    """Give back what was paid for the days on which the plan before went on."""
    items = [(fee, _of_days_before(oracle, row, fee)) for fee in bill.all_fees if fee.cents]
    note = bill.note(items)
    if total := sum(note):
        oracle.played.add("gated_changes_late")
        bill.give_back(note)
        for fee, amount in items:
            fee.credited += rounded(amount)
            fee.passed += rounded(amount)
        oracle.give(
            row.customer, bill, Note(total, total, total, oracle.now, items=items, of_days_before=True)
        )


def _of_days_before(oracle: Oracle, row: Subscription, fee: Fee) -> Fraction:
    """What of a fee is for days that have passed."""
    assert fee.start is not None
    assert fee.end is not None
    today, after = row.day(oracle.now), row.day(fee.end)
    if fee.kind == "subscription":
        since, from_now = (
            cut(min(Fraction(fee.price * (after - day).days, fee.whole_days), Fraction(fee.cents)), 5)
            for day in (row.day(fee.start), today)
        )
        return since - from_now
    charge = next(each for each in row.plan["fixed"] if each["code"] == fee.code)
    if not charge["prorated"]:
        return Fraction(0)
    first, end = row.period(today)
    left = oracle.fixed_fee(row, charge, fee.units, (today, after, (end - first).days), row.follows)
    return Fraction(max(fee.cents - left.cents, 0))


def give_up(oracle: Oracle, row: Subscription) -> None:
    """What its invoice took comes back, from credit notes too."""
    bill = row.gate
    assert bill is not None
    row.ended = oracle.now
    oracle.take_back(bill)
    for note, cents in bill.used_notes:
        note.balance += cents
    voids.after_given_back(row.customer, [note for note, _ in bill.used_notes])


def ends(oracle: Oracle) -> Iterator[datetime]:
    return (row.gives_up for row in waiting(oracle) if row.gives_up is not None)


def give_up_due(oracle: Oracle) -> None:
    for row in waiting(oracle):
        if row.gives_up is not None and row.gives_up <= oracle.now:
            oracle.played.add("gates_timed_out")
            give_up(oracle, row)
