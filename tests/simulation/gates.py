"""Subscriptions that run once their first invoice is paid (semantics-billing.md 3.7)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from .settle import Bill, Fee

if TYPE_CHECKING:
    from datetime import datetime

    from .oracle import Action, Oracle, Subscription


def waits(oracle: Oracle, row: Subscription, fees: list[Fee]) -> bool:
    """Bill a start that has to be paid first, where credits don't pay it whole; whether it waits for that."""
    bill = Bill("subscription", [fee for fee in fees if fee.cents], oracle.now, all_fees=fees)
    bill.parts = [(row, "start")]
    oracle.take_credits(row.customer, bill)
    row.gate = bill
    row.fees += fees
    for fee in bill.fees:
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


def give_up(oracle: Oracle, row: Subscription) -> None:
    """What its invoice took comes back, from credit notes too."""
    bill = row.gate
    assert bill is not None
    row.ended = oracle.now
    oracle.take_back(bill)
    for note, cents in bill.used_notes:
        note.balance += cents


def ends(oracle: Oracle) -> Iterator[datetime]:
    return (row.gives_up for row in waiting(oracle) if row.gives_up is not None)


def give_up_due(oracle: Oracle) -> None:
    for row in waiting(oracle):
        if row.gives_up is not None and row.gives_up <= oracle.now:
            oracle.played.add("gates_timed_out")
            give_up(oracle, row)
