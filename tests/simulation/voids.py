"""Invoices that are voided, also with credit notes: one for what is asked for, and one that is void itself for the rest (4.8).

What comes back of an invoice comes back once: by its notes or by its void (docs/decisions/020-voids-give-back-once.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from .prices import rounded
from .settle import Note

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle
    from .settle import Bill, Fee


def parts(oracle: Oracle, action: Action) -> tuple[int, int]:
    """What is credited and what is refunded, so much of each as there is."""
    found = oracle.bill(action["bill"])
    if found is None:
        return 0, 0
    _, bill = found
    whole = _creditable(bill)
    credit = rounded(whole * Fraction(action["credit"]))
    refund = min(rounded(whole * Fraction(action["refund"])), whole - credit, bill.refundable)
    return credit, max(refund, 0)


def _creditable(bill: Bill) -> int:
    """What a note on all that is left comes to; credits that were sold come back by no note."""
    return 0 if bill.fills else sum(bill.note((fee, fee.cents - rounded(fee.credited)) for fee in bill.fees))


def void_alone(oracle: Oracle, bill: Bill) -> None:
    """Wallets have again what notes have left of what was paid; unspent credit of notes beyond that is given up."""
    bill.status = "voided"
    _remember(bill)
    oracle.played |= {"void_after_note"} if 0 <= bill.kept < bill.prepaid else set()
    bill.given_back = oracle.take_back(bill, max(bill.kept, 0))
    oracle.played |= {"note_given_up"} if _give_up(bill.credit_notes, -bill.kept) else set()


def _remember(bill: Bill) -> None:
    """What its notes are before it is voided."""
    bill.notes_before_void = len(bill.credit_notes)
    for note in bill.credit_notes:
        note.given_up_before_void = note.given_up


def after_given_back(who: Customer, notes: Sequence[Note]) -> None:
    """Give up credit that came back to notes of bills that were voided meanwhile, beyond what these were paid with."""
    for bill in who.bills:
        is_alone = bill.status == "voided" and len(bill.credit_notes) == bill.notes_before_void
        if is_alone and any(note is each for note in notes for each in bill.credit_notes):
            again = bill.again.credit_notes if bill.again else ()
            _give_up(bill.credit_notes, -bill.kept - sum(note.given_up for note in again))


def _give_up(notes: Sequence[Note], cents: int) -> bool:
    """Whether the newest of them have given up any of it."""
    left = cents
    for note in reversed(notes):
        left = note.give_up(left)
    return left < cents


def credit_again(oracle: Oracle, who: Customer, voided: Bill, bill: Bill, fees: Mapping[int, Fee]) -> None:
    """What notes had given back of a voided invoice comes back of the one that replaces it. `fees` is by id of the old ones."""
    made = []
    for old in voided.credit_notes[: voided.notes_before_void]:
        items = [(fees[id(fee)], amount) for fee, amount in old.items]
        back = bill.note(items)
        if (total := sum(back)) and old.given_up_before_void < old.total:
            bill.give_back(back)
            offset = max(min(old.offset, total, bill.due), 0)
            bill.offset += offset
            for fee, amount in items:
                fee.credited += rounded(Fraction(amount))
                fee.passed += rounded(Fraction(amount)) if old.of_days_before else 0
            credit = total - offset
            made.append(replace(old, total=total, credit=credit, balance=credit, offset=offset, given_up=0))
            made[-1].made, made[-1].items, made[-1].given_up_before_void = oracle.now, items, 0
            oracle.give(who, bill, made[-1])
            made[-1].give_up(old.given_up_before_void * total // old.total)
            oracle.played.add("credited_again")
    _give_up(made, -voided.kept if made else 0)


def void(oracle: Oracle, action: Action) -> bool:
    """Coupons come back; what wallets and credit notes have paid does not."""
    found = oracle.bill(action["bill"])
    if found is None or found[1].status != "finalized":
        return False
    who, bill = found
    credit, refund = parts(oracle, action)
    _remember(bill)
    rest = _creditable(bill) - credit - refund
    if credit + refund:
        oracle.played |= {"voided_with_credit"} if credit else set()
        oracle.played |= {"voided_with_refund"} if refund else set()
        oracle.give(who, bill, Note(credit + refund, credit, credit, oracle.now))
    if rest:
        oracle.give(who, bill, Note(rest, rest, 0, oracle.now, given_up=rest))
    bill.status = "voided"
    bill.refunded += refund
    for fee in bill.fees:
        fee.credited = Fraction(fee.cents)
    for coupon, cents in bill.used_coupons:
        coupon.use(-cents, -1)
    return True
